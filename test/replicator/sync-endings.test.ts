/** Jobs that end early: shut down, robbed of their lease, without a database, or with nothing to be kept. */
import { afterAll, describe, expect, it } from 'vitest'
import type { RepositoryMode } from '../../src/oci/repository-mode.ts'
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
const freshName = () => nameOf(`group/ends-${++names}`)

describe('a job that ends early', () => {
  it('is released when it is shut down: due at once, and no failure', async () => {
    const stop = new AbortController()
    await using site = await syncFixture(primary.url, {
      copying: (real) => ({
        ...real,
        copy(name, manifest, options) {
          stop.abort(new Error('the site shuts down'))
          return real.copy(name, manifest, options)
        },
      }),
    })
    const name = freshName()
    await pushImage(api, name, 'one', await buildImage({ seed: name }))

    await site.sync(name, stop.signal)

    expect(await site.tags(name)).toEqual({})
    expect(await site.row(name)).toMatchObject({ state: 'pending', retryCount: 0 })
    expect((await site.tracking.due(Date.now(), 10)).map(({ path }) => path)).toEqual([name])
  })

  it('settles nothing once another job has taken its place', async () => {
    let nowMs = Date.now()
    const name = freshName()
    await using site = await syncFixture(primary.url, {
      leaseTtlMs: 60_000,
      now: () => nowMs,
      copying: (real) => ({
        ...real,
        async copy(asked, manifest, options) {
          const report = await real.copy(asked, manifest, options)
          // The job hung for longer than its lease, and another one began.
          nowMs += 120_000
          expect(await site.tracking.lease(name, 60_000)).toBeDefined()
          return report
        },
      }),
    })
    await pushImage(api, name, 'one', await buildImage({ seed: name }))

    await site.sync(name)

    expect(await site.row(name)).toMatchObject({ state: 'started', retryCount: 0 })
  })

  it('sets no tag when the lease is lost before its copy has ended', async () => {
    const name = freshName()
    const rival: { began: boolean } = { began: false }
    await using site = await syncFixture(primary.url, {
      leaseTtlMs: 30,
      tracking: (real) => ({
        ...real,
        renew: async (lease, ttlMs) => (rival.began ? undefined : real.renew(lease, ttlMs)),
      }),
      copying: (real) => ({
        ...real,
        async copy(asked, manifest, options) {
          const report = await real.copy(asked, manifest, options)
          rival.began = true
          await expect.poll(() => options.signal.aborted).toBe(true)
          return report
        },
      }),
    })
    await pushImage(api, name, 'one', await buildImage({ seed: name }))

    await site.sync(name)

    expect(await site.tags(name)).toEqual({})
    const { values } = await site.metrics.replicationRuns.get()
    expect(values).toMatchObject([{ labels: { outcome: 'lost' }, value: 1 }])
  })

  it('does not reject when the database is away, at any of its steps', async () => {
    const steps = ['lease', 'pendingEvents', 'find', 'failingTags', 'settle', 'renew'] as const
    for (const step of steps) {
      const away = () => Promise.reject(new Error('the database is away'))
      await using site = await syncFixture(primary.url, {
        // So short that it has to be renewed before the tag is set.
        leaseTtlMs: step === 'renew' ? 1 : undefined,
        tracking: (real) => ({ ...real, [step]: away }),
      })
      const name = freshName()
      await pushImage(api, name, 'one', await buildImage({ seed: name }))

      await expect(site.sync(name)).resolves.toBeUndefined()
      expect((await site.row(name)).state, step).not.toBe('synced')
    }
  })

  it.each<RepositoryMode>(['deny', 'passthrough'])(
    'hides what is here of a repository that becomes %s',
    async (mode) => {
      let now: RepositoryMode = 'replicate'
      await using site = await syncFixture(primary.url, { mode: () => now })
      const name = freshName()
      const image = await buildImage({ seed: name })
      await pushImage(api, name, 'one', image)
      await site.sync(name)
      now = mode

      await site.sync(name)

      expect(await site.tags(name)).toEqual({})
      expect(await site.store.index.link(name, 'manifest', image.digest)).toBeUndefined()
      for (const { digest } of image.blobs) {
        expect(await site.store.index.link(name, 'layer', digest)).toBeUndefined()
      }
      expect(await site.tracking.find(name)).toBeUndefined()
      const restorable: string[] = []
      for await (const { tags } of site.store.holdings.hidden()) restorable.push(...tags)
      expect(restorable).toEqual(['one'])
    },
  )

  it('keeps what is not allowed any longer while the brake holds', async () => {
    let now: RepositoryMode = 'replicate'
    await using site = await syncFixture(primary.url, {
      mode: () => now,
      brake: (real) => ({ ...real, allows: async () => false }),
    })
    const name = freshName()
    const image = await buildImage({ seed: name })
    await pushImage(api, name, 'one', image)
    await site.sync(name)
    now = 'deny'

    await site.sync(name)

    expect(await site.tags(name)).toEqual({ one: image.digest })
    expect(await site.row(name)).toMatchObject({ state: 'failed', needsAttention: false })
  })

  it('copies nothing of a repository that is kept on demand, and keeps what clients brought', async () => {
    let now: RepositoryMode = 'replicate'
    await using site = await syncFixture(primary.url, { mode: () => now })
    const name = freshName()
    const image = await buildImage({ seed: name })
    await pushImage(api, name, 'one', image)
    await site.sync(name)
    now = 'ondemand'
    await pushImage(api, name, 'two', await buildImage({ seed: `${name} two` }))
    await site.hear({ action: 'push', repository: name, tag: 'two' })

    await site.run(name)

    expect(await site.tags(name)).toEqual({ one: image.digest })
    expect(await site.tracking.find(name)).toBeUndefined()
    expect(await site.store.holdings.completeSince(name)).toBeUndefined()
  })
})
