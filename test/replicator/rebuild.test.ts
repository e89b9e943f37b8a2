/** The tracking database made again, over a real one. */
import { afterEach, beforeEach, expect, it } from 'vitest'
import { rebuild } from '../../replicator/rebuild.ts'
import { nameOf } from '../store/store-fixture.ts'
import { reconcileScene, type Scene } from './reconcile-scene.ts'

let scene: Scene
beforeEach(async () => {
  scene = await reconcileScene()
})
afterEach(() => scene[Symbol.asyncDispose]())

const tracked = async () => (await scene.tracking.list({ limit: 1000 })).map(({ path }) => path)

async function rebuilt() {
  const { tracking, held } = scene
  const holdings = {
    async *repositories() {
      yield* [...held.keys()].map(nameOf)
    },
  }
  const deps = { tracking, holdings, reconciler: scene.open(), modeOf: () => 'replicate' as const }
  return await rebuild(deps, { signal: new AbortController().signal, onProgress: () => undefined })
}

it('asks the brake about all that the primary lost, before a job can be asked about one of it', async () => {
  const lost = Array.from({ length: 101 }, (_, number) => `lost/p${number}`)
  for (const name of lost) scene.held.set(name, 1)
  for (const name of ['lost/p0', 'forgotten']) await scene.synced(name, scene.nowMs)
  let trackedMeanwhile: readonly string[] | undefined
  scene.inventory = {
    async *repositories() {
      trackedMeanwhile = await tracked()
      yield []
    },
  }

  expect(await rebuilt()).toEqual({ foundAtPrimary: 0, foundHereOnly: 101, heldBack: 101 })

  expect(trackedMeanwhile).toEqual([])
  expect(await scene.brake.status()).toMatchObject({ trippedAtMs: scene.nowMs, repositories: lost.length })
  expect(new Set(await tracked())).toEqual(new Set(lost))
})

it('tracks what is here all the same when the primary cannot be asked, and says why it could not', async () => {
  scene.held.set('team/app', 1)
  scene.pages = [new Error('the primary is away')]

  await expect(rebuilt()).rejects.toThrow('the primary is away')

  expect(await tracked()).toEqual(['team/app'])
})

it('counts what the primary lists, and what is here besides', async () => {
  for (const name of ['team/a', 'team/b']) scene.held.set(name, 1)
  scene.pages = [['team/a', 'team/new']]

  expect(await rebuilt()).toEqual({ foundAtPrimary: 2, foundHereOnly: 1, heldBack: 0 })

  expect(await tracked()).toEqual(['team/a', 'team/b', 'team/new'])
  expect(scene.woken()).toEqual(['team/b'])
})
