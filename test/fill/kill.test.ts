/** kill -9 in the middle of a fill: nothing wrong is ever published, and at most one sync interval is fetched again. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { SYNC_BYTES } from '../../src/fill/spool.ts'
import type { Digest } from '../../src/oci/digest.ts'
import { APP, type FillFixture, fillFixture, landed, MiB, pull, someBytes } from './fill-fixture.ts'

const SIZE = 160 * MiB

let site: FillFixture
beforeEach(async () => {
  site = await fillFixture()
})
afterEach(() => site[Symbol.asyncDispose]())

/** Fills in a process of its own, kills it once it has read so far, and says how far it had come. */
async function killAt(digest: Digest, position: number): Promise<number> {
  const script = join(import.meta.dirname, 'filling-process.ts')
  const args = [script, site.store.paths.root, site.primary.origin, APP, digest]
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  const exited = once(child, 'exit')
  let reached = 0
  for await (const line of createInterface({ input: child.stdout })) {
    reached = Number(line)
    if (reached >= position) child.kill('SIGKILL')
  }
  expect(await exited).toEqual([null, 'SIGKILL'])
  return reached
}

describe('a process killed in the middle of a fill', () => {
  it.each([1, 2, 3])(
    'loses at most one sync interval, and nothing wrong is published (round %i)',
    async () => {
      const bytes = someBytes(SIZE)
      const digest = site.primary.hold([APP], bytes)
      const reached = await killAt(digest, Math.random() * (SIZE - MiB))
      expect(await site.store.blobs.stat(digest)).toBeUndefined()
      await site.restart()

      const got = await pull(site.fill, APP, digest)
      await landed(site.fill)

      expect(got.equals(bytes)).toBe(true)
      expect(await site.store.blobs.stat(digest)).toBe(SIZE)
      expect(await site.receivedBytes()).toBeLessThanOrEqual(SIZE - reached + SYNC_BYTES)
      expect(await site.spools()).toEqual([])
    },
  )

  it('again and again still gets to the end', async () => {
    const bytes = someBytes(SIZE)
    const digest = site.primary.hold([APP], bytes)
    for (const part of [0.45, 0.7, 0.95]) await killAt(digest, part * SIZE)
    await site.restart()

    expect((await pull(site.fill, APP, digest)).equals(bytes)).toBe(true)
    await landed(site.fill)
    expect(await site.receivedBytes()).toBeLessThanOrEqual(0.05 * SIZE + SYNC_BYTES)
  })
})
