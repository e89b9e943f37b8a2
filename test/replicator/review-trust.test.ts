/** What a job may believe without asking: nothing that failed before, and nothing that was written meanwhile. */
import { afterAll, describe, expect, it } from 'vitest'
import { UpstreamError } from '../../src/upstream/errors.ts'
import type { Upstream } from '../../src/upstream/upstream.ts'
import { nameOf, tagOf } from '../store/store-fixture.ts'
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
const freshName = () => nameOf(`group/trust-${++names}`)

/** The primary, with other words where a test has them. */
function answering(manifest: (ask: Upstream['getManifest']) => Upstream['getManifest']) {
  return (real: Upstream): Upstream => ({ ...real, getManifest: manifest(real.getManifest) })
}

describe('what a job believes without asking', () => {
  it('never calls a tag in step again that it could not ask about, because of an older word', async () => {
    let nowMs = Date.now()
    const state: { broken: boolean } = { broken: false }
    await using site = await syncFixture(primary.url, {
      reconcileMs: 3_600_000,
      now: () => nowMs,
      upstream: answering((real) => async (name, reference, ask) => {
        if (state.broken && reference.kind === 'tag' && reference.tag === 'two') {
          throw new UpstreamError('unavailable', 'GET of manifest was answered 500')
        }
        return real(name, reference, ask)
      }),
    })
    const name = freshName()
    await pushImage(api, name, 'one', await buildImage({ seed: name }))
    await pushImage(api, name, 'two', await buildImage({ seed: `${name} 2` }))
    await site.sync(name)
    expect(await site.row(name)).toMatchObject({ state: 'synced' })

    state.broken = true
    nowMs += 3_000_000
    await site.run(name)
    expect(await site.row(name)).toMatchObject({ state: 'failed', failingTagsCount: 1, retryCount: 1 })
    const failing = await site.tracking.failingTags(name)
    nowMs += 120_000
    await site.run(name)

    expect(await site.row(name)).toMatchObject({ state: 'failed', failingTagsCount: 1, retryCount: 2 })
    expect(await site.tracking.failingTags(name)).toEqual(failing)
  })

  it('leaves the tag that a client pushed while it was asked for, also one that was in doubt', async () => {
    const name = freshName()
    const tag = tagOf('latest')
    let during: (() => Promise<void>) | undefined
    let pushed = false
    await using site = await syncFixture(primary.url, {
      upstream: answering((real) => async (name, reference, ask) => {
        if (reference.kind !== 'tag' || reference.tag !== tag) return real(name, reference, ask)
        const then = during
        during = undefined
        if (!then && pushed) throw new UpstreamError('unavailable', 'away')
        const answer = await real(name, reference, ask)
        await then?.()
        return answer
      }),
    })
    const old = await buildImage({ seed: `${name} old` })
    const young = await buildImage({ seed: `${name} young` })
    await pushImage(api, name, 'young', young)
    await pushImage(api, name, 'latest', old)
    await site.sync(name)
    await site.store.index.doubtTag(name, tag)

    during = async () => {
      // As the proxy does it for a push that the primary has answered 201.
      const { index } = site.store
      const mark = index.mark()
      const write = await site.freshness.beginWrite(name, [tag])
      const observation = (await site.freshness.endWrite(write)).get(tag)
      expect(await index.putTag(name, tag, young.digest, mark)).toBe(true)
      if (observation) await site.freshness.confirm(observation, young.digest)
      pushed = true
    }
    await site.sync(name)

    expect(pushed).toBe(true)
    expect((await site.store.index.tag(name, tag))?.digest).toBe(young.digest)
  })
})
