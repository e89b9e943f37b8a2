/** Real registries, two on one store, and canaries that come back through a real events listener. */
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { startEventsListener } from '../../../replicator/events-listener.ts'
import { createCanaries } from '../../../replicator/relay/canaries.ts'
import type { EpochWatermark } from '../../../replicator/relay/epoch-state.ts'
import { createEpochs, type Epochs } from '../../../replicator/relay/epochs.ts'
import { followInstances } from '../../../replicator/relay/instances.ts'
import { createLogger } from '../../../src/log.ts'
import { createMetrics } from '../../../src/metrics.ts'
import {
  createMintedTokenSource,
  createNoTokenSource,
  type TokenSource,
} from '../../../src/upstream/token-source.ts'
import {
  type DockerRegistry,
  type DockerRegistryOptions,
  startDockerRegistry,
} from '../../support/docker-registry.ts'
import { buildImage } from '../../support/images.ts'
import { DEFAULT_ISSUER, DEFAULT_SERVICE, mintToken, signingKey } from '../../support/keys.ts'
import { pushImage } from '../../support/push-image.ts'
import { createRegistryApi } from '../../support/registry-api.ts'
import { tempFolder } from '../../support/temp.ts'
import { until } from '../../support/wait.ts'

const SECRET = 'aTwenty-characters_secret'
const log = createLogger({ destination: { write: () => {} } })

/** What a relay is made of here, and the registries beside it; each test has its own, and they run side by side. */
interface Scene extends AsyncDisposable {
  readonly epochs: Epochs
  /** What would be in the log: repository and tag. */
  readonly logged: readonly string[]
  startRegistry(options?: RegistryOptions): Promise<DockerRegistry>
  send(registries: readonly DockerRegistry[], kind?: 'pull' | 'push', tokens?: TokenSource): void
  /** Resolves with the first watermark of an epoch. */
  begun(): Promise<EpochWatermark>
}

interface RegistryOptions extends DockerRegistryOptions {
  readonly ignoredActions?: readonly string[]
}

async function startScene(): Promise<Scene> {
  await using starting = new AsyncDisposableStack()
  const folder = starting.use(await tempFolder('canaries'))
  const epochs = createEpochs({ queueSize: 3_000 })
  const logged: string[] = []
  const listener = starting.use(
    await startEventsListener(
      {
        async accept({ notices, arrivals }) {
          for (const { repository, tag } of notices) logged.push(`${repository}:${tag}`)
          epochs.heard(arrivals, logged.length)
        },
        onRefused: epochs.receiverFailed,
        log,
        metrics: createMetrics(),
      },
      { host: '127.0.0.1', port: 0, secret: () => SECRET },
    ),
  )
  const owned = starting.move()
  return {
    epochs,
    logged,
    async startRegistry({ ignoredActions = [], ...options } = {}) {
      const endpoint = {
        name: 'relay',
        url: `http://127.0.0.1:${listener.address.port}/notifications`,
        timeout: '500ms',
        threshold: 10,
        backoff: '500ms',
        headers: { Authorization: [SECRET] },
        ignore: { mediatypes: ['application/octet-stream'], actions: [...ignoredActions] },
      }
      const root = join(folder.path, 'root')
      const notifications = { endpoints: [endpoint] }
      return owned.use(await startDockerRegistry({ root, notifications, ...options }))
    },
    send(registries, kind = 'pull', tokens = createNoTokenSource()) {
      const canaries = owned.use(
        createCanaries({ epochs, tokens, log }, { repository: 'geo-registry/canary', kind }),
      )
      owned.use(
        followInstances(
          {
            onResolved(addresses, askedAtMs) {
              epochs.instances(
                addresses.map(({ key }) => key),
                askedAtMs,
              )
              canaries.set(addresses)
            },
            onUnresolved: epochs.unresolved,
          },
          { origins: registries.map(({ port }) => `http://localhost:${port}`) },
        ),
      )
    },
    begun: () => until(() => epochs.watermark(), { what: `an epoch: ${epochs.note()}`, deadlineMs: 25_000 }),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

describe('canaries of two registries on one store, as they run', () => {
  // Alone: it tells how young a watermark is.
  it('begin an epoch whose watermark stays young and covers what is pushed', async () => {
    await using scene = await startScene()
    const { epochs, logged, startRegistry, send, begun } = scene
    const registries = await Promise.all([startRegistry(), startRegistry()])
    send(registries)
    await begun()
    const [first] = registries
    await using api = createRegistryApi(first?.url ?? '')

    await pushImage(api, 'team/app', 'v1', await buildImage({ layers: [100] }))
    const pushedAtMs = performance.now()
    const covering = await until(
      () => {
        const mark = epochs.watermark()
        return mark && mark.sentAtMs >= pushedAtMs && mark
      },
      { what: 'a watermark that covers the push' },
    )

    expect(logged.slice(0, covering.through)).toContain('team/app:v1')
    const ages: number[] = []
    await until(() => ages.push(epochs.state().watermarkAgeMs ?? Number.POSITIVE_INFINITY) > 100, {
      what: 'ages',
    })
    expect(Math.max(...ages)).toBeLessThan(2_000)
    const { canaries, instances } = epochs.state()
    expect(canaries).toMatchObject({ lost: 0 })
    expect(new Set(instances.map(({ instanceId }) => instanceId)).size).toBe(2)
    expect(logged.filter((each) => each === 'geo-registry/canary:canary').length).toBeLessThanOrEqual(2)
  })
})

describe.concurrent('canaries of two registries on one store', () => {
  it('come back as pushes where pulls are ignored', async () => {
    await using scene = await startScene()
    const { logged, startRegistry, send, begun } = scene
    const registries = await Promise.all([
      startRegistry({ ignoredActions: ['pull'] }),
      startRegistry({ ignoredActions: ['pull'] }),
    ])
    send(registries, 'push')

    await begun()

    expect(logged).toContain('geo-registry/canary:canary')
  })

  it('are missing, and say so, where pulls are ignored and canaries are pulls', async () => {
    await using scene = await startScene()
    const { epochs, startRegistry, send } = scene
    send([await startRegistry({ ignoredActions: ['pull'] })])

    await until(() => epochs.state().setback?.reason === 'canary-missing', { what: 'the reason' })

    expect(epochs.note()).toContain('relay.canary.kind')
  })

  it('end the epoch when one is restarted, and begin another with the new process', async () => {
    await using scene = await startScene()
    const { epochs, startRegistry, send, begun } = scene
    const registries = await Promise.all([startRegistry(), startRegistry()])
    send(registries)
    const former = await begun()
    const ids = epochs.state().instances.map(({ instanceId }) => instanceId)

    await registries[1]?.restart()
    await until(() => epochs.watermark()?.epoch !== former.epoch, { what: 'the end' })

    expect(['canary-refused', 'instance-changed', 'canary-missing']).toContain(epochs.state().lastEnd.reason)
    const next = await begun()
    expect(next.epoch).not.toBe(former.epoch)
    expect(epochs.state().instances[0]?.instanceId).toBe(ids[0])
    expect(epochs.state().instances[1]?.instanceId).not.toBe(ids[1])
  })

  it('end the epoch when one stands still', async () => {
    await using scene = await startScene()
    const { epochs, startRegistry, send, begun } = scene
    const registries = await Promise.all([startRegistry(), startRegistry()])
    send(registries)
    await begun()

    registries[0]?.freeze()
    await until(() => epochs.watermark() === undefined, { what: 'the end' })

    expect(epochs.state().lastEnd).toMatchObject({
      instance: `http://localhost:${registries[0]?.port} (127.0.0.1)`,
    })
    registries[0]?.thaw()
  })

  it('end the epoch when a third one writes that nobody named', async () => {
    await using scene = await startScene()
    const { epochs, startRegistry, send, begun } = scene
    const registries = await Promise.all([startRegistry(), startRegistry()])
    const third = await startRegistry()
    send(registries)
    await begun()
    await using api = createRegistryApi(third.url)

    await pushImage(api, 'team/app', 'v1', await buildImage({ layers: [100] }))
    await until(() => epochs.watermark() === undefined, { what: 'the end' })

    expect(epochs.state().lastEnd.reason).toBe('unknown-instance')
  })
})

describe.concurrent('a registry that wants tokens', () => {
  /** Grants what is asked for, as far as `actions` go. */
  async function tokensFor(actions: readonly string[]) {
    const key = await signingKey()
    const auth = {
      realm: 'http://127.0.0.1:1/jwt/auth',
      service: DEFAULT_SERVICE,
      issuer: DEFAULT_ISSUER,
      key,
    }
    const tokens = createMintedTokenSource((scopes) => {
      const now = Math.floor(Date.now() / 1000)
      return mintToken(key, {
        iss: DEFAULT_ISSUER,
        aud: DEFAULT_SERVICE,
        iat: now,
        exp: now + 300,
        access: scopes.map((scope) => ({
          ...scope,
          actions: scope.actions.filter((action) => actions.includes(action)),
        })),
      })
    })
    return { auth, tokens }
  }

  it('is given one that may push the canary image, and then those that may pull it', async () => {
    await using scene = await startScene()
    const { startRegistry, send, begun } = scene
    const { auth, tokens } = await tokensFor(['pull', 'push'])
    send([await startRegistry({ auth })], 'pull', tokens)

    await begun()
  })

  it('that lets the image not be pushed is named with what it answered and what to do', async () => {
    await using scene = await startScene()
    const { epochs, startRegistry, send } = scene
    const { auth, tokens } = await tokensFor(['pull'])
    send([await startRegistry({ auth })], 'pull', tokens)

    await until(() => epochs.note()?.includes('could not be pushed'), { what: 'the reason' })

    expect(epochs.note()).toMatch(
      /did not take a canary: the canary image could not be pushed to geo-registry\/canary \(upload: answered 401 .*relay.canary.repository/s,
    )
  })
})
