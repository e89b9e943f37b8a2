/** Law 12: what no delete event explains is removed only in small numbers, whoever asks, and a trip outlives everything. */
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { Brake, Removal } from '../../replicator/brake.ts'
import { createRemovalBrake } from '../../replicator/removal-brake.ts'
import { createLogger } from '../../src/log.ts'
import { openTracking } from '../../src/tracking/open-tracking.ts'
import type { Counts, Tracking } from '../../src/tracking/tracking.ts'
import { nameOf } from '../store/store-fixture.ts'
import { type TempFolder, tempFolder } from '../support/temp.ts'

const log = createLogger({ level: 'silent' })

let folder: TempFolder
let tracking: Tracking
/** Of the whole site. */
let tags = 0
let brake: Brake

beforeEach(async () => {
  folder = await tempFolder('brake')
  tags = 0
  await start()
})
afterEach(async () => {
  await tracking[Symbol.asyncDispose]()
  await folder[Symbol.asyncDispose]()
})

async function start(): Promise<void> {
  tracking = await openTracking({ kind: 'sqlite', file: join(folder.path, 'tracking.db') }, { log })
  const counts = async (): Promise<Counts> => ({ ...(await tracking.counts()), tags })
  const { cursor, setCursor } = tracking
  brake = createRemovalBrake({ tracking: { counts, cursor, setCursor }, log, now: () => 5000 })
}
async function restart(): Promise<void> {
  await tracking[Symbol.asyncDispose]()
  await start()
}

function whole(count: number, from = 0): Removal[] {
  return Array.from({ length: count }, (_, at) => ({
    repository: nameOf(`gone/${from + at}`),
    tags: 0,
    whole: true,
  }))
}
function part(repository: string, count: number): Removal[] {
  return [{ repository: nameOf(repository), tags: count, whole: false }]
}

describe('the brake', () => {
  it('lets 99 repositories go and trips at the hundredth, however many questions that takes', async () => {
    for (const removal of whole(99)) expect(await brake.allows([removal])).toBe(true)

    expect(await brake.allows(whole(1, 99))).toBe(false)
    expect(await brake.status()).toMatchObject({ trippedAtMs: 5000, repositories: 1, tags: 0 })
  })

  it('lets nothing of 100 repositories asked about together go', async () => {
    expect(await brake.allows(whole(100))).toBe(false)
    expect(await brake.status()).toMatchObject({ repositories: 100 })
    expect(await brake.allows(whole(1))).toBe(false)
  })

  it.each([
    { site: 0, removed: 99, allowed: true },
    { site: 50, removed: 100, allowed: false },
    { site: 9_999, removed: 100, allowed: false },
    { site: 10_000, removed: 100, allowed: true },
    { site: 10_000, removed: 101, allowed: false },
    { site: 1_000_000, removed: 10_000, allowed: true },
    { site: 1_000_000, removed: 10_001, allowed: false },
  ])('answers $allowed to $removed tags of $site', async ({ site, removed, allowed }) => {
    tags = site

    expect(await brake.allows(part('team/app', removed))).toBe(allowed)
  })

  it('counts the tags of whole repositories and of others together', async () => {
    tags = 5000
    expect(await brake.allows([{ repository: nameOf('a'), tags: 60, whole: true }])).toBe(true)
    expect(await brake.allows(part('b', 39))).toBe(true)

    expect(await brake.allows(part('c', 1))).toBe(false)
  })

  it('counts a repository once a pass, by the most it was named with', async () => {
    for (let time = 0; time < 50; time++) {
      expect(await brake.allows([...whole(50), ...part('a', 50), ...part('a', 50)])).toBe(true)
    }
    expect(await brake.allows(part('a', 99))).toBe(true)

    expect(await brake.allows(part('a', 100))).toBe(false)
  })

  it('counts anew when a pass begins', async () => {
    await brake.allows([...whole(99), ...part('a', 99)])
    await brake.beginPass()

    expect(await brake.allows([...whole(99, 200), ...part('b', 99)])).toBe(true)
  })

  it('goes on counting after a restart, and still counts a repository once', async () => {
    await brake.allows([...whole(99), ...part('a', 99)])
    await restart()
    expect(await brake.allows([...whole(99), ...part('a', 99)])).toBe(true)

    expect(await brake.allows(whole(1, 99))).toBe(false)
  })

  it('stays tripped through passes and restarts until a hand releases it', async () => {
    await brake.allows(whole(100))
    await restart()
    await brake.beginPass()

    expect((await brake.status()).trippedAtMs).toBe(5000)
    expect(await brake.allows(part('other', 1))).toBe(false)
  })

  it('says what waits in this pass, once for each repository, with a hundred names', async () => {
    tags = 100
    await brake.allows([...whole(150), ...part('a', 3)])
    await brake.allows([...whole(150), ...part('a', 3)])

    const { examples, ...status } = await brake.status()

    expect(status).toMatchObject({ repositories: 150, tags: 3 })
    expect(examples).toEqual(whole(100).map(({ repository }) => repository))
    await brake.beginPass()
    expect(await brake.status()).toMatchObject({ trippedAtMs: 5000, repositories: 0, tags: 0, examples: [] })
  })

  it('does not count what it held back as let through', async () => {
    await brake.allows(whole(100))
    await brake.release()
    await brake.beginPass()

    expect(await brake.allows(whole(99))).toBe(true)
  })

  it('lets everything through after a release, also after a restart, and only until the next pass', async () => {
    await brake.allows(whole(500))
    await brake.release()
    await restart()

    expect(await brake.status()).toMatchObject({
      trippedAtMs: undefined,
      releasedAtMs: 5000,
      repositories: 0,
    })
    expect(await brake.allows(whole(500))).toBe(true)
    await brake.beginPass()
    expect(await brake.allows(whole(500, 1000))).toBe(false)
  })

  it('is not disarmed by a release while it was not tripped', async () => {
    await brake.release()

    expect(await brake.allows(whole(100))).toBe(false)
  })

  it('has nothing against removing nothing, even when tripped', async () => {
    await brake.allows(whole(100))

    expect(await brake.allows([])).toBe(true)
    expect(await brake.allows(part('a', 0))).toBe(true)
  })

  it('adds up questions that are asked at the same moment', async () => {
    const answers = await Promise.all(whole(120).map((removal) => brake.allows([removal])))

    expect(answers.filter((allowed) => allowed)).toHaveLength(99)
  })

  it('keeps a trip that another process wrote while this one was letting something go', async () => {
    const counts = async (): Promise<Counts> => {
      await brake.allows(whole(100)) // In the middle of the other's question.
      return { ...(await tracking.counts()), tags: 1_000_000 }
    }
    const { cursor, setCursor } = tracking
    const other = createRemovalBrake({ tracking: { cursor, setCursor, counts }, log })

    expect(await other.allows(part('a', 200))).toBe(true)

    expect((await other.status()).trippedAtMs).toBe(5000)
    expect(await other.allows(part('b', 1))).toBe(false)
  })

  it('says no by failing when its count cannot be written down, and goes on afterwards', async () => {
    const { cursor, counts } = tracking
    const setCursor = vi.fn(tracking.setCursor).mockRejectedValueOnce(new Error('no database'))
    brake = createRemovalBrake({ tracking: { cursor, counts, setCursor }, log })

    await expect(brake.allows(whole(99))).rejects.toThrow('no database')
    expect(await brake.allows(whole(99))).toBe(true)
    expect(await brake.allows(whole(1, 99))).toBe(false)
  })
})
