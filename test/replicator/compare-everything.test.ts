/** What was missed is made good: every repository is due, durably, and the primary is asked for its list. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { nameOf } from '../store/store-fixture.ts'
import { HOUR_MS, reconcileScene, type Scene } from './reconcile-scene.ts'

function eventually(check: () => void | Promise<void>): Promise<void> {
  return vi.waitFor(check, { timeout: 20_000 })
}

let scene: Scene
beforeEach(async () => {
  scene = await reconcileScene()
  scene.pages = [['team/a', 'team/b']]
})
afterEach(() => scene[Symbol.asyncDispose]())

/** A site in step, whose last pass was just now. */
async function inStep(): Promise<void> {
  const reconciler = scene.open()
  reconciler.start()
  await eventually(() => expect(reconciler.status().lastPass).toBeDefined())
  await reconciler.close()
  for (const name of ['team/a', 'team/b']) await scene.synced(name, scene.nowMs)
  scene.wakes.length = 0
}

describe('comparing everything', () => {
  it('makes every repository due and asks for the list once, although the period is young', async () => {
    await inStep()
    const reconciler = scene.open()
    await reconciler.compareEverything()
    expect((await scene.tracking.counts()).byState).toMatchObject({ synced: 0, pending: 2 })

    scene.pages = [['team/a', 'team/b', 'team/new']]
    scene.lists = 0
    reconciler.start()
    await eventually(() => expect(scene.woken()).toEqual(['team/a', 'team/b', 'team/new']))
    await eventually(() => expect(reconciler.status().passRunning).toBe(false))
    expect(scene.lists).toBe(1)
  })

  it('is not forgotten by a process that is killed right after', async () => {
    await inStep()
    await scene.open().compareEverything()
    scene.lists = 0
    scene.open().start()
    await eventually(() => expect(scene.lists).toBe(1))
    await eventually(() => expect(scene.woken()).toEqual(['team/a', 'team/b']))
  })

  it('asks for the list again when it was asked for while one was read', async () => {
    await inStep()
    const reconciler = scene.open()
    const { promise, resolve } = Promise.withResolvers<readonly string[]>()
    scene.pages = [promise]
    const pass = reconciler.passNow()
    await eventually(() => expect(reconciler.status().passRunning).toBe(true))
    await eventually(() => expect(scene.lists).toBeGreaterThan(1))
    await reconciler.compareEverything()
    scene.lists = 0
    resolve(['team/a', 'team/b'])
    await pass
    reconciler.start()
    await eventually(() => expect(scene.lists).toBe(1))
  })

  it('reaches more repositories than one page of rows has', async () => {
    const names = Array.from({ length: 2_345 }, (_, at) => nameOf(`team/app${at}`))
    await scene.tracking.discover(names)
    for (const name of names.slice(0, 3)) await scene.synced(name, scene.nowMs)
    await scene.open().compareEverything()
    expect((await scene.tracking.counts()).byState).toMatchObject({ synced: 0, pending: 2_345 })
  })

  it('does not begin the count of removals anew, however often it is asked for', async () => {
    for (let at = 0; at < 4 * 40; at++) scene.held.set(`gone/${at}`, 1)
    const all = [...scene.held.keys()]
    scene.pages = [all]
    await scene.open().passNow()
    scene.nowMs += HOUR_MS
    const reconciler = scene.open()
    let left = all
    const outcomes = []
    for (let turn = 0; turn < 4; turn++) {
      const gone = left.slice(0, 40)
      left = left.slice(40)
      scene.pages = [left]
      await reconciler.compareEverything()
      outcomes.push((await reconciler.passNow()).heldBack)
      for (const name of gone) scene.held.delete(name)
      scene.nowMs += 60_000
    }
    // 99 repositories a period may go.
    expect(outcomes).toEqual([0, 0, 40, 40])
  })

  it('rejects while the tracking database is away, so that it is asked for again', async () => {
    const reconciler = scene.open()
    vi.spyOn(scene.tracking, 'setCursor').mockRejectedValueOnce(new Error('away'))
    await expect(reconciler.compareEverything()).rejects.toThrow('away')
  })
})
