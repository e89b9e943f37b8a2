/** What must outlive the end of a job: what is heard at that very moment, and the wish to stop. */
import { afterAll, describe, expect, it } from 'vitest'
import { UpstreamError } from '../../src/upstream/errors.ts'
import { nameOf } from '../store/store-fixture.ts'
import { type DockerRegistry, startDockerRegistry } from '../support/docker-registry.ts'
import { buildImage } from '../support/images.ts'
import { pushImage } from '../support/push-image.ts'
import { createRegistryApi } from '../support/registry-api.ts'
import { syncFixture } from './sync-fixture.ts'

const primary: DockerRegistry = await startDockerRegistry()
const api = createRegistryApi(primary.url)
afterAll(async () => {
  await api[Symbol.asyncDispose]()
  await primary[Symbol.asyncDispose]()
})

let names = 0
const freshName = () => nameOf(`group/review-${++names}`)

describe('the end of a job', () => {
  it('forgets no event that comes at the moment its repository is forgotten', async () => {
    const name = freshName()
    const state: { armed: boolean } = { armed: false }
    await using site = await syncFixture(primary.url, {
      tracking: (real) => ({
        ...real,
        async forget(...args) {
          if (state.armed) {
            state.armed = false
            await site.hear({ action: 'push', repository: name, tag: 'v1' })
          }
          return real.forget(...args)
        },
      }),
    })
    state.armed = true

    await site.sync(name) // Neither side has it.

    expect(state.armed).toBe(false)
    expect(await site.tracking.pendingEvents(name)).toHaveLength(1)
    expect((await site.tracking.due(Date.now(), 10)).map(({ path }) => path)).toEqual([name])
  })

  it('looks at no further tag once the site shuts down', async () => {
    const stop = new AbortController()
    const state: { armed: boolean; looks: number } = { armed: false, looks: 0 }
    await using site = await syncFixture(primary.url, {
      reconcileMs: 3_600_000,
      copying: (real) => ({
        ...real,
        async missing(name, digest) {
          state.looks++
          if (state.armed) stop.abort(new Error('the site shuts down'))
          return real.missing(name, digest)
        },
      }),
    })
    const name = freshName()
    for (let at = 0; at < 40; at++) {
      await pushImage(api, name, `v${at}`, await buildImage({ seed: `${name} ${at}`, layers: [10] }))
    }
    await site.sync(name)
    site.whole.forget()
    state.looks = 0
    state.armed = true

    await site.sync(name, stop.signal)

    expect(stop.signal.aborted).toBe(true)
    expect(state.looks).toBeLessThan(10)
    expect(await site.row(name)).toMatchObject({ state: 'pending' })
  })
  it('needs no hand in each repository once a wrong credential of the site was corrected', async () => {
    const state: { refused: boolean } = { refused: true }
    await using site = await syncFixture(primary.url, {
      inventory: (real) => ({
        ...real,
        async tags(name, signal) {
          if (state.refused) throw new UpstreamError('unauthorized', 'list of tags was answered 401')
          return real.tags(name, signal)
        },
      }),
    })
    const name = freshName()
    await pushImage(api, name, 'v1', await buildImage({ seed: name }))
    for (let failures = 0; failures < 12; failures++) await site.sync(name)
    expect(await site.row(name)).toMatchObject({ state: 'failed', retryCount: 12, needsAttention: false })

    state.refused = false
    await site.sync(name)

    expect(await site.row(name)).toMatchObject({ state: 'synced', retryCount: 0 })
  })
})
