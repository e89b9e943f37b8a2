/** What Debian's docker-registry really sends, and does when it is not answered, against the listener. */
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { startEventsListener } from '../../replicator/events-listener.ts'
import type { Notice } from '../../replicator/notification.ts'
import type { HttpListener } from '../../src/http-listener.ts'
import { createLogger } from '../../src/log.ts'
import { createMetrics, type Metrics } from '../../src/metrics.ts'
import { type DockerRegistry, startDockerRegistry } from '../support/docker-registry.ts'
import { buildImage, buildMultiArch } from '../support/images.ts'
import { pushImage } from '../support/push-image.ts'
import { createRegistryApi, type RegistryApi } from '../support/registry-api.ts'

const SECRET = 'aTwenty-characters_secret'

/** What is accepted, in order, without the ids. */
let seen: Omit<Notice, 'id'>[] = []
let refusals = 0
let metrics: Metrics
let listener: HttpListener
let primary: DockerRegistry
let api: RegistryApi
const owned = new AsyncDisposableStack()

beforeAll(async () => {
  metrics = createMetrics()
  listener = owned.use(
    await startEventsListener(
      {
        async accept({ notices }) {
          if (refusals-- > 0) throw new Error('not now')
          for (const { id, ...rest } of notices) seen.push(rest)
        },
        log: createLogger({ destination: { write: () => {} } }),
        metrics,
      },
      { host: '127.0.0.1', port: 0, secret: () => SECRET },
    ),
  )
  primary = owned.use(await startDockerRegistry({ notifications: notifications(SECRET) }))
  api = owned.use(createRegistryApi(primary.url))
})
afterAll(() => owned.disposeAsync())

/** As GitLab's documentation has it, with a shorter wait before a repetition. */
function notifications(secret: string) {
  return {
    endpoints: [
      {
        name: 'geo-registry',
        url: `http://127.0.0.1:${listener.address.port}/notifications`,
        timeout: '500ms',
        threshold: 5,
        backoff: '200ms',
        headers: { Authorization: [secret] },
      },
    ],
  }
}

interface Expected {
  readonly action: Notice['action']
  readonly repository: string
  readonly tag: string | undefined
  readonly digest?: string | undefined
}

async function whatIsHeardOf(work: () => Promise<unknown>, notices: readonly Expected[]): Promise<void> {
  seen = []
  await work()
  await vi.waitFor(() => expect(seen.length).toBeGreaterThanOrEqual(notices.length), { timeout: 10_000 })
  expect(seen).toMatchObject(notices)
}
const tagged = (action: Notice['action'], repository: string, tag: string): Expected => ({
  action,
  repository,
  tag,
})
const untagged = (action: Notice['action'], repository: string, digest: string | undefined): Expected => ({
  action,
  repository,
  digest,
  tag: undefined,
})

describe('docker-registry 2.8 tells of', () => {
  it('a pushed image by its tag and digest, and not of its blobs', async () => {
    const image = await buildImage({ seed: 'tag' })

    await whatIsHeardOf(
      () => pushImage(api, 'team/app', 'v1', image),
      [{ ...tagged('push', 'team/app', 'v1'), digest: image.digest }],
    )
  })

  it('an index and each manifest under it', async () => {
    const index = await buildMultiArch({ seed: 'multi' })

    await whatIsHeardOf(
      () => pushImage(api, 'team/multi', 'v1', index),
      [
        ...index.children.map(({ digest }) => untagged('push', 'team/multi', digest)),
        { ...tagged('push', 'team/multi', 'v1'), digest: index.digest },
      ],
    )
    await whatIsHeardOf(
      () => pushImage(api, 'team/multi', undefined, index),
      [...index.children, index].map(({ digest }) => untagged('push', 'team/multi', digest)),
    )
  })

  it('a mounted blob, by the repository that it is in now', async () => {
    const image = await buildImage({ seed: 'mount' })
    await whatIsHeardOf(() => pushImage(api, 'team/app', 'v2', image), [tagged('push', 'team/app', 'v2')])
    const [, layer] = image.blobs

    await whatIsHeardOf(
      () => api.startUpload('other/app', `?mount=${layer?.digest}&from=team/app`),
      [untagged('mount', 'other/app', layer?.digest)],
    )
  })

  it('a deleted manifest by its digest, and of each tag that it had', async () => {
    const image = await buildImage({ seed: 'delete' })
    await whatIsHeardOf(async () => {
      await pushImage(api, 'team/gone', 'v1', image)
      await pushImage(api, 'team/gone', 'v2', image)
    }, [tagged('push', 'team/gone', 'v1'), tagged('push', 'team/gone', 'v2')])

    seen = []
    await api.deleteManifest('team/gone', image.digest)
    await vi.waitFor(() => expect(seen.length).toBe(3), { timeout: 10_000 })
    expect(seen[0]).toMatchObject(untagged('delete', 'team/gone', image.digest))
    const tags = seen.slice(1).sort((one, other) => ((one.tag ?? '') < (other.tag ?? '') ? -1 : 1))
    expect(tags).toMatchObject([
      { ...tagged('delete', 'team/gone', 'v1'), digest: undefined },
      { ...tagged('delete', 'team/gone', 'v2'), digest: undefined },
    ])
  })

  it('a deleted blob just as of a deleted manifest', async () => {
    const image = await buildImage({ seed: 'blob' })
    const [config] = image.blobs
    await whatIsHeardOf(() => pushImage(api, 'team/blob', 'v1', image), [tagged('push', 'team/blob', 'v1')])

    await whatIsHeardOf(
      () => api.deleteBlob('team/blob', config?.digest ?? ''),
      [untagged('delete', 'team/blob', config?.digest)],
    )
  })

  it('pulls, which are counted and not kept, but of none that was answered 304', async () => {
    const pulls = async () => {
      const { values } = await metrics.eventsIgnored.get()
      return values.find(({ labels }) => labels.reason === 'pull')?.value ?? 0
    }
    const image = await buildImage({ seed: 'pull' })
    await whatIsHeardOf(() => pushImage(api, 'team/pull', 'v1', image), [tagged('push', 'team/pull', 'v1')])
    const before = await pulls()

    await api.getManifest('team/pull', 'v1', { 'if-none-match': `"${image.digest}"` })
    await api.headManifest('team/pull', 'v1')

    await vi.waitFor(async () => expect(await pulls()).toBe(before + 1), { timeout: 10_000 })
    await whatIsHeardOf(() => pushImage(api, 'team/pull', 'v2', image), [tagged('push', 'team/pull', 'v2')])
    expect(await pulls()).toBe(before + 1)
  })
})

describe('an event that is not accepted at first', () => {
  it('comes again until it is, and those behind it follow', async () => {
    refusals = 2
    const [one, two] = await Promise.all([buildImage({ seed: 'one' }), buildImage({ seed: 'two' })])

    await whatIsHeardOf(async () => {
      await pushImage(api, 'team/late', 'v1', one)
      await pushImage(api, 'team/late', 'v2', two)
    }, [tagged('push', 'team/late', 'v1'), tagged('push', 'team/late', 'v2')])
  })

  it('for the wrong secret is never accepted', async () => {
    await using stranger = await startDockerRegistry({ notifications: notifications('another secret') })
    await using strangerApi = createRegistryApi(stranger.url)
    seen = []

    await pushImage(strangerApi, 'team/stranger', 'v1', await buildImage({ seed: 'stranger' }))

    await vi.waitFor(
      async () => {
        const { values } = await metrics.notifications.get()
        const unauthorized = values.find(({ labels }) => labels.result === 'unauthorized')
        expect(unauthorized?.value).toBeGreaterThan(1)
      },
      { timeout: 10_000 },
    )
    expect(seen).toEqual([])
  })
})
