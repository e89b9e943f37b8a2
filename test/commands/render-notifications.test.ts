/** `config render notifications`: what a sysadmin pastes at the primary, and that a real registry does what it says. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { startEventsListener } from '../../replicator/events-listener.ts'
import type { ReadNotification } from '../../replicator/notification.ts'
import { runCommand } from '../../src/command.ts'
import { createLogger } from '../../src/log.ts'
import { createMetrics } from '../../src/metrics.ts'
import { SMALLEST } from '../config/given.ts'
import { startDockerRegistry } from '../support/docker-registry.ts'
import { buildImage } from '../support/images.ts'
import { pushImage } from '../support/push-image.ts'
import { createRegistryApi } from '../support/registry-api.ts'
import { type TempFolder, tempFolder } from '../support/temp.ts'
import { until } from '../support/wait.ts'

const SECRET = "It's_a\\secret"

let owned: AsyncDisposableStack
let folder: TempFolder
let secretFile: string
beforeEach(async () => {
  owned = new AsyncDisposableStack()
  folder = owned.use(await tempFolder('render'))
  secretFile = await folder.write('notifications.secret', `${SECRET}\n`)
})
afterEach(async () => await owned.disposeAsync())

async function relayFile(canary: 'pull' | 'push', events = '10.0.0.7:5013'): Promise<string> {
  const token = await folder.write('tokyo.token', 'token-of-tokyo')
  return await folder.write(
    'relay.yml',
    `
version: 1
upstream: { url: "http://127.0.0.1:5000" }
http: { events: { addr: "${events}" } }
replication: { notifications: { secretfile: "${secretFile}" } }
storage: { filesystem: { rootdirectory: "${folder.path}" } }
relay: { sites: [{ name: tokyo, tokenfile: "${token}" }], canary: { kind: ${canary} }, queuesize: 500 }
`,
  )
}

async function render(file: string, ...args: string[]) {
  let out = ''
  let err = ''
  const status = await runCommand(['config', 'render', 'notifications', '--config', file, ...args], {
    out: (text) => {
      out += text
    },
    err: (text) => {
      err += text
    },
  })
  return { status, out, err }
}

describe('config render notifications', () => {
  it("prints the endpoint for Distribution's YAML, and where the secret is to be had", async () => {
    const { status, out } = await render(await relayFile('pull'))

    expect(status).toBe(0)
    expect(parse(out)).toEqual({
      notifications: {
        endpoints: [
          {
            name: 'geo_registry_relay',
            url: 'http://10.0.0.7:5013/notifications',
            headers: { Authorization: [`<the content of ${secretFile}>`] },
            timeout: '2s',
            threshold: 5,
            backoff: '1s',
            queuesizelimit: 500,
            ignore: { mediatypes: ['application/octet-stream'] },
          },
        ],
      },
    })
    expect(out).not.toContain('s_a')
    expect(out).toContain('canaries of the relay come back as pulls')
  })

  it('leaves out pulls only where no canary comes back as one', async () => {
    const { out } = await render(await relayFile('push'))

    expect(parse(out).notifications.endpoints[0].ignore).toEqual({
      mediatypes: ['application/octet-stream'],
      actions: ['pull'],
    })
  })

  it('prints a gitlab.rb that keeps geo_event, with a secret that Ruby reads letter for letter', async () => {
    const file = await relayFile('push')
    const { out } = await render(file, '--for', 'omnibus', '--show-secret')

    expect(out).toMatch(/^# .*\n(?:# .*\n)+registry\['notifications'\] = \[\n/)
    expect(out).toContain('keep geo_event in it, as it stands in the file now.\n')
    expect(out).toContain(`
  # { 'name' => 'geo_event', ... },
  {
    'name' => 'geo_registry_relay',
    'url' => 'http://10.0.0.7:5013/notifications',
    'timeout' => '2s',
    'maxretries' => 10,
    'backoff' => '1s',
    'queuesizelimit' => 500,
    'ignore' => { 'mediatypes' => ['application/octet-stream'], 'actions' => ['pull'] },
    'headers' => { 'Authorization' => ['It\\'s_a\\\\secret'] }
  }
]
`)
    expect((await render(file, '--for', 'omnibus')).out).toContain(`['<the content of ${secretFile}>']`)
  })

  it('waits long enough before it gives up, at the least what a relay takes to be restarted', async () => {
    const { out } = await render(await relayFile('pull'), '--for', 'chart')
    const { backoff, maxretries } = parse(out).global.registry.notifications.endpoints[0]

    // The registry's: 1.5 times as long each time, give or take half.
    const shortestMs = Array.from({ length: maxretries }, (_, n) => 0.5 * 1000 * 1.5 ** n)
    expect(backoff).toBe('1s')
    expect(shortestMs.reduce((sum, waitMs) => sum + waitMs)).toBeGreaterThan(10_000)
  })

  it("prints the values of GitLab's chart, which take the secret from Kubernetes", async () => {
    const file = await relayFile('pull')
    const { out } = await render(file, '--for', 'chart', '--url', 'https://relay.internal:8443')

    expect(parse(out)).toEqual({
      global: {
        registry: {
          notifications: {
            endpoints: [
              {
                name: 'geo_registry_relay',
                url: 'https://relay.internal:8443/notifications',
                timeout: '2s',
                maxretries: 10,
                backoff: '1s',
                queuesizelimit: 500,
                ignore: { mediatypes: ['application/octet-stream'] },
                headers: { Authorization: { secret: 'geo-registry-notifications', key: 'value' } },
              },
            ],
          },
        },
      },
    })
    expect(out).toContain(
      `kubectl create secret generic geo-registry-notifications --from-literal=value="$(cat '${secretFile}')"\n`,
    )
    expect((await render(file, '--for', 'chart', '--show-secret')).out).toContain(
      `--from-literal=value='It'\\''s_a\\secret'\n`,
    )
  })

  it('does the same for a site that takes notifications itself, which has no use for pulls', async () => {
    const file = await folder.write(
      'site.yml',
      `${SMALLEST}
site: { name: "São Tomé 1" }
http: { events: { addr: "[fd00::7]:5013" } }
replication: { notifications: { secret: a-word } }`,
    )
    const [endpoint] = parse((await render(file)).out).notifications.endpoints

    expect(endpoint).toMatchObject({
      name: 'geo_registry_S_o_Tom_1',
      url: 'http://[fd00::7]:5013/notifications',
      headers: { Authorization: ['<the value of replication.notifications.secret>'] },
      ignore: { actions: ['pull'] },
    })
  })

  it.each([
    [
      () => relayFile('pull', ':5013'),
      [],
      "http.events.addr :5013 is every address; expected --url, where the primary's registry reaches it\n",
    ],
    [
      () => relayFile('pull', '127.0.0.1:0'),
      [],
      "http.events.addr: port 0 is another one at each start; expected --url, where the primary's registry reaches it\n",
    ],
    [
      () => relayFile('pull'),
      ['--url', 'relay:5013'],
      '--url: expected a URL such as http://10.0.0.7:5013, got relay:5013\n',
    ],
    [
      () => folder.write('site.yml', SMALLEST),
      [],
      'http.events.addr: missing; expected the address where notifications are taken, beside replication.notifications.secretfile\n',
    ],
    [
      () => relayFile('pull'),
      ['--for', 'harbor'],
      "error: option '--for <form>' argument 'harbor' is invalid.",
    ],
  ])('says what is missing (%#), and ends with status 2', async (file, args, words) => {
    const { status, out, err } = await render(await file(), ...args)

    expect(status).toBe(2)
    expect(out).toBe('')
    expect(err.slice(0, words.length)).toBe(words)
  })
})

describe('a real registry with what was printed', () => {
  /** Everything that is delivered to a listener with the secret, by a registry that was given the rendered endpoint. */
  async function delivering(canary: 'pull' | 'push') {
    const arrived: ReadNotification[] = []
    const listener = owned.use(
      await startEventsListener(
        {
          accept: async (read) => void arrived.push(read),
          log: createLogger({ destination: { write: () => undefined } }),
          metrics: createMetrics(),
        },
        { host: '127.0.0.1', port: 0, secret: () => SECRET },
      ),
    )
    const url = `http://127.0.0.1:${listener.address.port}`
    const { out } = await render(await relayFile(canary), '--show-secret', '--url', url)
    const registry = owned.use(await startDockerRegistry({ notifications: parse(out).notifications }))
    const api = owned.use(createRegistryApi(registry.url))
    const image = await buildImage()
    await pushImage(api, 'team/app', 'v1', image)
    const headers = { 'user-agent': 'geo-registry canary/a.1', accept: image.mediaType }
    await api.request('HEAD', `/v2/team/app/manifests/${image.digest}`, { headers })
    await pushImage(api, 'team/app', 'v2', image)
    const notices = () => arrived.flatMap((read) => read.notices)
    await until(() => notices().length === 2, { what: 'both pushes to be delivered' })
    return { arrived, notices: notices() }
  }

  it('delivers pushes and the canaries that come back as pulls, and no blobs', async () => {
    const { arrived, notices } = await delivering('pull')

    expect(notices.map(({ action, tag }) => `${action} ${tag}`)).toEqual(['push v1', 'push v2'])
    expect(arrived.flatMap(({ ignored }) => ignored)).toEqual(['pull'])
    expect(arrived.flatMap(({ arrivals }) => arrivals.map(({ userAgent }) => userAgent))).toContain(
      'geo-registry canary/a.1',
    )
  })

  it('delivers no pulls where canaries are pushed', async () => {
    const { arrived } = await delivering('push')

    expect(arrived.flatMap(({ ignored }) => ignored)).toEqual([])
  })
})
