/** What a primary whose catalog cannot be had does to the count of what was removed. */
import { describe, expect, it } from 'vitest'
import { UpstreamError } from '../../src/upstream/errors.ts'
import { nameOf } from '../store/store-fixture.ts'
import { HOUR_MS, reconcileScene } from './reconcile-scene.ts'

describe('a pass that fails and is tried again', () => {
  it('does not begin the count of removals anew each time', async () => {
    await using scene = await reconcileScene()
    scene.pages = [new UpstreamError('denied', 'GET of catalog was answered 403')]
    const reconciler = scene.open()
    const removed: boolean[] = []
    for (let hour = 0; hour < 4; hour++) {
      await reconciler.passNow().catch(() => undefined)
      for (let at = 0; at < 40; at++) {
        const repository = nameOf(`gone/app-${hour}-${at}`)
        removed.push(await scene.brake.allows([{ repository, tags: 1, whole: true }]))
      }
      scene.nowMs += HOUR_MS
    }
    expect(removed.filter(Boolean)).toHaveLength(99)
    expect((await scene.brake.status()).trippedAtMs).toBeDefined()
  })

  it('begins it anew once a period has passed, so that a catalog nobody may read trips nothing by itself', async () => {
    await using scene = await reconcileScene()
    scene.pages = [new UpstreamError('denied', 'GET of catalog was answered 403')]
    for (let day = 0; day < 4; day++) {
      await scene
        .open()
        .passNow()
        .catch(() => undefined)
      for (let at = 0; at < 40; at++) {
        const repository = nameOf(`gone/app-${day}-${at}`)
        expect(await scene.brake.allows([{ repository, tags: 1, whole: true }])).toBe(true)
      }
      scene.nowMs += 24 * HOUR_MS
    }
  })
  it('ends a release after a period, though no list of repositories was had to serve it', async () => {
    await using scene = await reconcileScene()
    for (const name of ['a', 'b']) scene.held.set(name, 1)
    const removals = Array.from({ length: 100 }, (_, at) => ({
      repository: nameOf(`gone/app-${at}`),
      tags: 1,
      whole: true,
    }))
    expect(await scene.brake.allows(removals)).toBe(false)
    await scene.brake.release()
    scene.pages = [new UpstreamError('denied', 'GET of catalog was answered 403')]
    const reconciler = scene.open()
    await reconciler.passNow().catch(() => undefined)
    expect(await scene.brake.allows(removals)).toBe(true)

    scene.nowMs += 24 * HOUR_MS
    await reconciler.passNow().catch(() => undefined)

    expect(await scene.brake.allows(removals)).toBe(false)
  })
})
