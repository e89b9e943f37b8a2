/** The relay's role as a whole: the real command, a real registry beside it, and a site's questions. */
import { appendFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { LogPage } from '../replicator/relay/page.ts'
import { runCommand } from '../src/command.ts'
import type { RelayReport } from '../src/status/relay-report.ts'
import { SMALLEST } from './config/given.ts'
import {
  type DockerRegistry,
  type DockerRegistryOptions,
  startDockerRegistry,
} from './support/docker-registry.ts'
import { buildImage } from './support/images.ts'
import { signingKey } from './support/keys.ts'
import { freePort } from './support/port.ts'
import { runProgram } from './support/process.ts'
import { pushImage } from './support/push-image.ts'
import { createRegistryApi } from './support/registry-api.ts'
import { notifiesRelay, type RelayOptions, type RelayProcess, startRelayProcess } from './support/relay.ts'
import { tempFolder } from './support/temp.ts'
import { startTokenService } from './support/token-service.ts'
import { until } from './support/wait.ts'

const MAIN = join(import.meta.dirname, '../src/main.ts')

interface SceneOptions extends Partial<RelayOptions> {
  /** Default true: the relay knows the registry, and sends it canaries. */
  readonly isNamed?: boolean
  readonly registryAuth?: DockerRegistryOptions['auth']
}

/** A registry that tells a relay beside it; each test has its own, and they run side by side. */
async function registryWithRelay({ isNamed = true, registryAuth, ...rest }: SceneOptions = {}) {
  await using starting = new AsyncDisposableStack()
  const eventsPort = await freePort()
  const notifications = notifiesRelay(eventsPort)
  const registry = starting.use(
    await startDockerRegistry({ notifications, ...(registryAuth && { auth: registryAuth }) }),
  )
  const relay = starting.use(
    await startRelayProcess({
      primary: registry.url,
      ...(isNamed && { instances: [registry.url] }),
      eventsPort,
      ...rest,
    }),
  )
  const owned = starting.move()
  return { registry, relay, [Symbol.asyncDispose]: () => owned.disposeAsync() }
}

async function push({ url }: DockerRegistry, tag: string): Promise<void> {
  await using api = createRegistryApi(url)
  await pushImage(api, 'team/app', tag, await buildImage())
}

async function ask(relay: RelayProcess, query: string, token = 'token-of-tokyo'): Promise<Response> {
  return await fetch(`${relay.url}/log?${query}`, { headers: { authorization: `Bearer ${token}` } })
}

async function page(relay: RelayProcess, query: string): Promise<LogPage> {
  return (await (await ask(relay, query)).json()) as LogPage
}

/** All that is in the log. */
async function everything(relay: RelayProcess): Promise<LogPage> {
  const { log } = await page(relay, '')
  return await page(relay, `after=0&log=${log}`)
}

async function report(relay: RelayProcess): Promise<RelayReport> {
  return (await (await fetch(`${relay.adminUrl}/status`)).json()) as RelayReport
}

const epochOf = (relay: RelayProcess) =>
  until(async () => (await report(relay)).epoch?.id, { what: 'an epoch', deadlineMs: 30_000 })

/** What `geo-registry` says with the relay's configuration. */
async function command(args: readonly string[], file: string) {
  let out = ''
  let err = ''
  const status = await runCommand([...args, '--config', file], {
    out: (text) => {
      out += text
    },
    err: (text) => {
      err += text
    },
  })
  return { status, out, err }
}

describe('geo-registry relay, as it runs', () => {
  // Alone: it tells how young a watermark is.
  it('gives a site what was pushed, proves that nothing is missing, and says how all stand', async () => {
    await using scene = await registryWithRelay()
    const { registry, relay } = scene
    const begin = await page(relay, '')
    await epochOf(relay)
    await push(registry, 'v1')

    const after = await until(
      async () => {
        const found = await page(relay, `after=${begin.through}&log=${begin.log}&wait=1000`)
        return found.watermark && found.records.some(({ notice }) => notice.tag === 'v1') && found
      },
      { what: 'the push and a watermark that covers it' },
    )
    expect(after.watermark?.through).toBeGreaterThanOrEqual(after.records[0]?.number ?? Number.NaN)
    expect(after.watermark?.ageMs).toBeLessThan(5000)
    expect(after.note).toBeUndefined()
    await page(relay, `after=${after.through}&log=${after.log}`)
    const { status, out } = await command(['status'], relay.configFile)
    expect([status, out]).toEqual([0, expect.stringContaining('tokyo: connected, read up to')])
    expect(out).toMatch(new RegExp(`${registry.url}: canary .* ago, process `))
    const metrics = await (await fetch(`${relay.adminUrl}/metrics`)).text()
    expect(metrics).toMatch(/^geo_registry_relay_events_total [1-9]/m)
    expect(metrics).toMatch(/^geo_registry_relay_watermark_age_seconds [01]\./m)
    expect(metrics).toMatch(/^geo_registry_relay_site_lag_seconds\{site="tokyo"\} 0$/m)
  })
})

describe.concurrent('geo-registry relay', () => {
  it('says why an epoch ended and what to do, and begins another when the registry is back', async () => {
    await using scene = await registryWithRelay()
    const { registry, relay } = scene
    const epoch = await epochOf(relay)
    await registry.stop()

    const ended = await until(
      async () => {
        const now = await report(relay)
        return now.epoch === null && now
      },
      { what: 'the end of the epoch' },
    )
    expect(ended.healthy).toBe(false)
    expect(ended.last_end?.reason).toMatch(/^canary-(refused|missing)$/)
    expect(ended.note).toContain(registry.url)
    const { status, out } = await command(['status'], relay.configFile)
    expect(status).toBe(1)
    expect(out).toContain('Epoch: none\n')
    expect(out).toContain('Completeness is not proved')

    await registry.start()
    const next = await epochOf(relay)
    expect(next).not.toBe(epoch)
  })

  it('keeps the log over a restart, and numbers on', async () => {
    await using scene = await registryWithRelay({ isNamed: false })
    const { registry, relay } = scene
    await push(registry, 'v1')
    const first = await until(
      async () => {
        const found = await everything(relay)
        return found.records.length === 1 && found
      },
      { what: 'the push' },
    )
    await relay.kill()
    await relay.start()
    await push(registry, 'v2')

    const both = await until(
      async () => {
        const found = await everything(relay)
        return found.records.length === 2 && found
      },
      { what: 'both pushes' },
    )
    expect(both.log).toBe(first.log)
    expect(both.records.map(({ number, notice }) => [number, notice.tag])).toEqual([
      [1, 'v1'],
      [2, 'v2'],
    ])
  })

  it('goes on hearing of pushes after a client whose name is as long as a registry takes', async () => {
    await using scene = await registryWithRelay({ isNamed: false })
    const { registry, relay } = scene
    await push(registry, 'v1')
    await using api = createRegistryApi(registry.url)
    // Go writes each of them in six letters.
    const headers = {
      'user-agent': '<'.repeat(1_000_000),
      accept: 'application/vnd.oci.image.manifest.v1+json',
    }
    expect((await api.request('HEAD', '/v2/team/app/manifests/v1', { headers })).status).toBe(200)
    await push(registry, 'v2')

    await until(async () => (await everything(relay)).records.length === 2, { what: 'both pushes' })
  })

  it('only keeps the log where no instances are named, and says so without being unhealthy', async () => {
    await using scene = await registryWithRelay({ isNamed: false })
    const { relay } = scene
    const { note, watermark } = await everything(relay)

    expect(watermark).toBeUndefined()
    expect(note).toMatch(/^No watermark: relay\.instances is not set.*name every process/)
    expect(await report(relay)).toMatchObject({ instances_named: false, instances: [], epoch: null })
    await everything(relay)
    expect((await command(['status'], relay.configFile)).status).toBe(0)
  })

  it('fills no log with canaries where they are pushed', async () => {
    await using scene = await registryWithRelay({ config: { relay: { canary: { kind: 'push' } } } })
    const { registry, relay } = scene
    await epochOf(relay)
    await push(registry, 'v1')
    const ofTag = async () => (await everything(relay)).records.filter(({ notice }) => notice.tag === 'v1')
    await until(async () => (await ofTag()).length > 0, { what: 'the push to be told' })
    await until(async () => (await report(relay)).canaries.returned > 6, {
      what: 'seven canaries',
      deadlineMs: 30_000,
    })

    const { records } = await everything(relay)
    const canaries = records.filter(({ notice }) => notice.repository === 'geo-registry/canary')
    expect(await ofTag()).toHaveLength(1)
    // The image itself, which may take two attempts: never one for each canary.
    expect(canaries.length).toBeLessThanOrEqual(4)
  })

  it('proves completeness of a registry that wants tokens, with a credential for the canaries alone', async () => {
    const user = { name: 'relay', password: 'canaries only' }
    const key = await signingKey()
    const repositories = { 'geo-registry/canary': ['pull', 'push'] }
    await using tokens = await startTokenService({ key, users: [{ ...user, repositories }] })
    const auth = { username: user.name, password: user.password, realm: tokens.realm }
    const config = { upstream: { auth }, auth: undefined }
    await using scene = await registryWithRelay({ registryAuth: tokens, config })

    await epochOf(scene.relay)
    expect(
      tokens.requests.every(({ scopes }) => scopes.every((each) => each.includes('geo-registry/canary'))),
    ).toBe(true)
  })

  it('lets in a site with its new token once the file has changed, and not with the old one', async () => {
    await using scene = await registryWithRelay({ isNamed: false, sites: ['tokyo', 'lima'] })
    const { relay } = scene
    expect((await ask(relay, '', 'token-of-lima')).status).toBe(200)
    expect((await ask(relay, '', 'another')).status).toBe(401)
    await writeFile(relay.tokenFile('lima'), 'another\n')

    await until(async () => (await ask(relay, '', 'another')).status === 200, { what: 'the new token' })
    expect((await ask(relay, '', 'token-of-lima')).status).toBe(401)
  })

  it('ends with status 0 when told to, while a site waits for news', async () => {
    await using scene = await registryWithRelay({ isNamed: false })
    const { relay } = scene
    const { log, through, note } = await page(relay, '')
    const waiting = page(relay, `after=${through}&log=${log}&wait=25000`)
    await until(async () => (await report(relay)).sites[0]?.connected, { what: 'the site to ask' })
    relay.signal('SIGTERM')

    expect(await relay.exited).toEqual({ code: 0, signal: null })
    expect(await waiting).toMatchObject({ records: [], note })
  })

  it('does not start a second time on the same configuration, and harms nothing', async () => {
    await using scene = await registryWithRelay({ isNamed: false })
    const { registry, relay } = scene
    const second = runProgram(process.execPath, [MAIN, 'relay', '--config', relay.configFile])
    await expect(second).rejects.toThrow('address already in use')
    await push(registry, 'v1')

    await until(async () => (await everything(relay)).records.length === 1, { what: 'the push' })
  })

  it("refuses a site's configuration, and a site a relay's, with what to do", async () => {
    await using folder = await tempFolder('sides')
    const site = await folder.write('site.yml', SMALLEST)
    const token = await folder.write('tokyo.token', 't')
    const relay = await folder.write('relay.yml', `${SMALLEST}\nhttp: { events: { addr: "127.0.0.1:1" } }\n`)
    await appendFile(relay, `relay: { sites: [{ name: tokyo, tokenfile: "${token}" }] }\n`)
    await appendFile(relay, 'replication: { notifications: { secret: s } }\n')

    expect(await command(['config', 'check'], relay)).toEqual({ status: 0, out: 'OK\n', err: '' })
    expect(await command(['relay'], site)).toMatchObject({
      status: 2,
      err: expect.stringContaining('this is the configuration of a site (geo-registry serve)'),
    })
    for (const role of ['serve', 'proxy', 'replicator']) {
      expect(await command([role], relay)).toMatchObject({
        status: 2,
        err: expect.stringContaining('run geo-registry relay with it'),
      })
    }
  })
})
