/** Law 1: what is wrong is never published, and never shown to its end. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { HOLD_BACK_BYTES } from '../../src/store/verify-stream.ts'
import {
  APP,
  type FillFixture,
  fillFixture,
  follow,
  KiB,
  landed,
  MiB,
  pull,
  readSpan,
  someBytes,
} from './fill-fixture.ts'

let site: FillFixture
beforeEach(async () => {
  site = await fillFixture()
})
afterEach(() => site[Symbol.asyncDispose]())

async function failures(reason: string): Promise<number> {
  const { values } = await site.metrics.fillFailures.get()
  return values.find(({ labels }) => labels.reason === reason)?.value ?? 0
}

describe('a body that is not what its digest says', () => {
  it.each([
    ['in its first byte', 0],
    ['in its last byte', -1],
    ['in the middle', 500 * KiB],
  ])('is cut before its last 64 KiB, never published, and fetched anew: wrong %s', async (_title, at) => {
    const bytes = someBytes(MiB)
    const digest = site.primary.hold([APP], bytes)
    site.primary.answer(() => ({ wrongByteAt: at < 0 ? bytes.length + at : at }))
    const follower = await follow(site.fill, APP, digest)
    const position = bytes.length - HOLD_BACK_BYTES

    await expect(readSpan(follower, position)).rejects.toMatchObject({ kind: 'faulty' })
    follower.close()
    await landed(site.fill)

    expect(await site.store.blobs.stat(digest)).toBeUndefined()
    expect(await site.store.index.link(APP, 'layer', digest)).toBeUndefined()
    expect(await site.spools()).toEqual([])
    expect(await failures('digest')).toBe(1)
    site.primary.answer(() => undefined)
    expect((await pull(site.fill, APP, digest)).equals(bytes)).toBe(true)
  })

  it('shows not one byte of a blob smaller than what is held back', async () => {
    const bytes = someBytes(10 * KiB)
    const digest = site.primary.hold([APP], bytes)
    site.primary.answer(() => ({ wrongByteAt: 9 * KiB }))
    const follower = await follow(site.fill, APP, digest)

    await expect(readSpan(follower, 0, 1)).rejects.toMatchObject({ kind: 'faulty' })
    follower.close()
  })

  it('is found also where it arrived out of order', async () => {
    const bytes = someBytes(80 * MiB)
    const digest = site.primary.hold([APP], bytes)
    const gate = Promise.withResolvers<void>()
    site.primary.answer(({ range }) =>
      range?.[0] === 0 ? { pause: { after: MiB, until: gate.promise } } : { wrongByteAt: 61 * MiB },
    )
    const whole = await follow(site.fill, APP, digest)
    await pull(site.fill, APP, digest, { range: { start: 60 * MiB, end: 62 * MiB - 1 } })
    gate.resolve()

    await expect(readSpan(whole)).rejects.toMatchObject({ kind: 'faulty' })
    whole.close()
    await landed(site.fill)
    expect(await site.store.blobs.stat(digest)).toBeUndefined()
  })
})

describe('the last 64 KiB', () => {
  it('wait for the verdict, and the byte before them does not', async () => {
    const bytes = someBytes(MiB)
    const digest = site.primary.hold([APP], bytes)
    const gate = Promise.withResolvers<void>()
    site.primary.answer(() => ({ pause: { after: bytes.length - 1, until: gate.promise } }))
    const follower = await follow(site.fill, APP, digest)
    const heldFrom = bytes.length - HOLD_BACK_BYTES

    expect((await readSpan(follower, 0, heldFrom)).equals(bytes.subarray(0, heldFrom))).toBe(true)
    const tail = readSpan(follower, heldFrom)
    const early = await Promise.race([tail.then(() => 'shown'), site.receivedBytes().then(() => 'held back')])
    gate.resolve()

    expect(early).toBe('held back')
    expect((await tail).equals(bytes.subarray(heldFrom))).toBe(true)
    follower.close()
  })
})

describe('a spool damaged while it waited on the disk', () => {
  it('is thrown away when its digest turns out wrong, and the next pull starts afresh', async () => {
    const bytes = someBytes(3 * MiB)
    const digest = site.primary.hold([APP], bytes)
    site.primary.answer(() => ({ pause: { after: 2 * MiB, until: new Promise(() => undefined) } }))
    const follower = await follow(site.fill, APP, digest)
    await readSpan(follower, 0, 2 * MiB - 1)
    follower.close()
    await site.restart()
    const damaged = Buffer.concat([someBytes(1000), bytes.subarray(1000, 2 * MiB)])
    await writeFile(join(site.store.paths.spools, `${digest.replace(':', '-')}.data`), damaged)
    site.primary.answer(() => undefined)

    await expect(pull(site.fill, APP, digest)).rejects.toMatchObject({ kind: 'faulty' })
    await landed(site.fill)

    expect((await pull(site.fill, APP, digest)).equals(bytes)).toBe(true)
  })
})
