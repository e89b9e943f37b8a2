/** Law 7: an interrupted fetch goes on at the byte where it stopped, also after a restart. */
import { readFile, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { PIECE_BYTES } from '../../src/fill/plan.ts'
import type { Digest } from '../../src/oci/digest.ts'
import { until } from '../support/wait.ts'
import {
  APP,
  type FillFixture,
  fillFixture,
  follow,
  KiB,
  landed,
  MiB,
  OTHER,
  pull,
  readSpan,
  someBytes,
  token,
} from './fill-fixture.ts'

let site: FillFixture
beforeEach(async () => {
  site = await fillFixture()
})
afterEach(() => site[Symbol.asyncDispose]())

const NEVER = new Promise<void>(() => undefined)

/** Begins a fill that stops after `bytes`, and restarts the site. */
async function interrupted(digest: Digest, bytes: number): Promise<void> {
  site.primary.answer(() => ({ pause: { after: bytes, until: NEVER } }))
  const follower = await follow(site.fill, APP, digest)
  await readSpan(follower, 0, bytes)
  await site.restart()
  follower.close()
  site.primary.answer(() => undefined)
}

function mapPath(digest: Digest): string {
  return join(site.store.paths.spools, `${digest.replace(':', '-')}.json`)
}

describe('a body that is cut', () => {
  it('is resumed at the byte where it was cut, for clients who notice nothing', async () => {
    const bytes = someBytes(5 * MiB)
    const digest = site.primary.hold([APP], bytes)
    site.primary.answer(({ number }) => (number < 3 ? { cutAfter: MiB + number } : undefined))

    const got = await pull(site.fill, APP, digest)
    await landed(site.fill)

    expect(got.equals(bytes)).toBe(true)
    expect(site.primary.gets().map(({ range }) => range?.[0])).toEqual([0, MiB, 2 * MiB + 1, 3 * MiB + 3])
    expect(await site.receivedBytes()).toBe(bytes.length)
  })

  it('is resumed also when nothing of the body had come', async () => {
    const bytes = someBytes(MiB)
    const digest = site.primary.hold([APP], bytes)
    site.primary.answer(({ number }) => (number === 0 ? { cutAfter: 0 } : undefined))

    expect((await pull(site.fill, APP, digest)).equals(bytes)).toBe(true)
  })

  it('is read again from its beginning, and nothing of it kept twice, where the primary ignores ranges', async () => {
    const bytes = someBytes(4 * MiB)
    const digest = site.primary.hold([APP], bytes)
    site.primary.answer(({ number }) => ({ ignoreRange: true, ...(number === 0 && { cutAfter: 3 * MiB }) }))

    expect((await pull(site.fill, APP, digest)).equals(bytes)).toBe(true)
    await landed(site.fill)
    expect(await site.store.blobs.stat(digest)).toBe(bytes.length)
  })

  it('waits out a primary that is away for a moment', async () => {
    const bytes = someBytes(2 * MiB)
    const digest = site.primary.hold([APP], bytes)
    site.primary.answer(({ number }) => {
      if (number === 0) return { cutAfter: MiB }
      return number < 3 ? { refuse: [503, 'UNAVAILABLE'] } : undefined
    })

    expect((await pull(site.fill, APP, digest)).equals(bytes)).toBe(true)
  })

  it('is given up after several failures without progress; what came is kept for the next pull', async () => {
    const bytes = someBytes(2 * MiB)
    const digest = site.primary.hold([APP], bytes)
    site.primary.answer(({ number }) => (number === 0 ? { cutAfter: MiB } : { refuse: [503, 'UNAVAILABLE'] }))

    await expect(pull(site.fill, APP, digest)).rejects.toMatchObject({ kind: 'unavailable' })
    await landed(site.fill)
    site.primary.answer(() => undefined)

    expect((await pull(site.fill, APP, digest)).equals(bytes)).toBe(true)
    expect(site.primary.gets().at(-1)?.range?.[0]).toBe(MiB)
  })

  it('is given up when each connection brings next to nothing', async () => {
    const digest = site.primary.hold([APP], someBytes(2 * MiB))
    site.primary.answer(() => ({ cutAfter: 100 }))

    await expect(pull(site.fill, APP, digest)).rejects.toMatchObject({ kind: 'unavailable' })
    expect(site.primary.gets().length).toBeLessThan(10)
  })
})

describe('a restart in the middle of a fill', () => {
  it('costs no byte twice', async () => {
    const bytes = someBytes(6 * MiB)
    const digest = site.primary.hold([APP], bytes)
    await interrupted(digest, 4 * MiB)
    const before = await site.receivedBytes()

    expect((await pull(site.fill, APP, digest)).equals(bytes)).toBe(true)
    await landed(site.fill)

    expect(site.primary.gets().at(-1)?.range).toEqual([4 * MiB, bytes.length - 1])
    expect(before + bytes.length - 4 * MiB).toBe(await site.receivedBytes())
    expect(await site.spools()).toEqual([])
  })

  it('keeps ranges that were fetched ahead', async () => {
    const bytes = someBytes(100 * MiB)
    const digest = site.primary.hold([APP], bytes)
    site.primary.answer(({ range }) =>
      range?.[0] === 0 ? { pause: { after: MiB, until: NEVER } } : undefined,
    )
    const whole = await follow(site.fill, APP, digest)
    await readSpan(whole, 0, MiB)
    await pull(site.fill, APP, digest, { range: { start: 60 * MiB, end: 70 * MiB - 1 } })
    const before = await site.receivedBytes()
    await site.restart()
    whole.close()
    site.primary.answer(() => undefined)

    expect((await pull(site.fill, APP, digest)).equals(bytes)).toBe(true)
    expect((await site.receivedBytes()) - before).toBe(bytes.length - 11 * MiB)
  })

  it('asks the primary about the next caller before any byte of the spool is shown', async () => {
    const bytes = someBytes(2 * MiB)
    const digest = site.primary.hold([APP], bytes)
    await interrupted(digest, MiB)

    await expect(pull(site.fill, OTHER, digest)).rejects.toMatchObject({ kind: 'absent' })
    expect((await pull(site.fill, APP, digest)).equals(bytes)).toBe(true)
  })

  it('that came after the last byte and before the verdict costs one question and no byte', async () => {
    const bytes = someBytes(2 * MiB)
    const digest = site.primary.hold([APP], bytes)
    await interrupted(digest, MiB)
    const dataPath = join(site.store.paths.spools, `${digest.replace(':', '-')}.data`)
    await writeFile(dataPath, bytes)
    const map = JSON.parse(await readFile(mapPath(digest), 'utf8'))
    await writeFile(mapPath(digest), JSON.stringify({ ...map, segments: [[0, bytes.length]] }))
    const before = await site.receivedBytes()

    expect((await pull(site.fill, APP, digest)).equals(bytes)).toBe(true)
    await landed(site.fill)

    expect(await site.receivedBytes()).toBe(before)
    expect(site.primary.requests.at(-1)).toMatchObject({ method: 'HEAD' })
    expect(await site.store.blobs.stat(digest)).toBe(bytes.length)
  })
})

describe('a spool that cannot be resumed', () => {
  it.each([
    ['its map is cut short', async (digest: Digest) => writeFile(mapPath(digest), '{"version":1')],
    ['its map is of a later version', (digest: Digest) => edited(digest, { version: 2 })],
    [
      'its map claims what the file does not have',
      (digest: Digest) => edited(digest, { segments: [[0, 3 * MiB]] }),
    ],
    [
      'its map contradicts itself',
      (digest: Digest) =>
        edited(digest, {
          segments: [
            [0, 9],
            [5, 20],
          ],
        }),
    ],
    [
      'it is older than a day',
      (digest: Digest) => edited(digest, { updatedAt: new Date(Date.now() - 25 * 3_600_000).toISOString() }),
    ],
  ])('is removed at the start and the blob fetched anew: %s', async (_title, spoil) => {
    const bytes = someBytes(4 * MiB)
    const digest = site.primary.hold([APP], bytes)
    await interrupted(digest, 2 * MiB)
    await spoil(digest)

    await site.restart()

    expect(await site.spools()).toEqual([])
    expect((await pull(site.fill, APP, digest)).equals(bytes)).toBe(true)
  })

  it('goes alone: what the capture of a push keeps in the same folder stays', async () => {
    const capture = join(site.store.paths.spools, 'push-1234.data')
    await writeFile(capture, 'pushed')
    await utimes(capture, 0, 0)

    await site.restart()

    expect(await site.spools()).toEqual(['push-1234.data'])
  })

  it('whose blob the primary has in another size is fetched anew by the next pull', async () => {
    const bytes = someBytes(4 * MiB)
    const digest = site.primary.hold([APP], bytes)
    await interrupted(digest, 2 * MiB)
    await edited(digest, { sizeBytes: 5 * MiB })
    await site.restart()

    await expect(pull(site.fill, APP, digest)).rejects.toMatchObject({ kind: 'faulty' })
    expect((await pull(site.fill, APP, digest)).equals(bytes)).toBe(true)
  })
})

async function edited(digest: Digest, changes: object): Promise<void> {
  const map = JSON.parse(await readFile(mapPath(digest), 'utf8'))
  await writeFile(mapPath(digest), JSON.stringify({ ...map, ...changes }))
}

describe('a fill whose clients have all left', () => {
  it('is suspended after the piece in progress, and resumed by the next one', async () => {
    const bytes = someBytes(PIECE_BYTES + 10 * MiB)
    const digest = site.primary.hold([APP], bytes)
    const gate = Promise.withResolvers<void>()
    site.primary.answer(() => ({ pause: { after: MiB, until: gate.promise } }))
    const follower = await follow(site.fill, APP, digest)
    follower.close()
    gate.resolve()
    await landed(site.fill)

    expect(await site.receivedBytes()).toBe(PIECE_BYTES)
    expect((await pull(site.fill, APP, digest, { credential: token('bob') })).equals(bytes)).toBe(true)
    expect(await site.receivedBytes()).toBe(bytes.length)
  })

  it('goes on with the site’s own credential where there is one', async () => {
    await site.restart({ siteCredential: { kind: 'site' } })
    const bytes = someBytes(PIECE_BYTES + 10 * MiB)
    const digest = site.primary.hold([APP], bytes)
    const gate = Promise.withResolvers<void>()
    site.primary.answer(({ number }) =>
      number === 0 ? { pause: { after: MiB, until: gate.promise } } : undefined,
    )
    const follower = await follow(site.fill, APP, digest)
    follower.close()
    gate.resolve()
    await landed(site.fill)

    expect(await site.store.blobs.stat(digest)).toBe(bytes.length)
    expect(site.primary.gets().map(({ authorization }) => authorization)).toEqual([
      'Bearer alice',
      'Bearer site',
    ])
  })
})

describe('a token that is refused in the middle', () => {
  it('is replaced by that of another live follower', async () => {
    const bytes = someBytes(3 * MiB)
    const digest = site.primary.hold([APP], bytes)
    const gate = Promise.withResolvers<void>()
    site.primary.answer(({ number, authorization }) => {
      if (number === 0) return { before: gate.promise, cutAfter: MiB }
      return authorization === 'Bearer old' ? undefined : { refuse: [401, 'UNAUTHORIZED'] }
    })
    const old = pull(site.fill, APP, digest, { credential: token('old') })
    await until(() => site.primary.requests.length === 1, { what: 'the first request' })
    const expired = pull(site.fill, APP, digest, { credential: token('expired') })
    gate.resolve()

    expect((await old).equals(bytes)).toBe(true)
    expect((await expired).equals(bytes)).toBe(true)
    expect(site.primary.gets().map(({ authorization }) => authorization)).toContain('Bearer expired')
  })

  it('fails its followers when nobody else can be asked for, and the spool is resumed with a newer one', async () => {
    const bytes = someBytes(3 * MiB)
    const digest = site.primary.hold([APP], bytes)
    site.primary.answer(({ number, authorization }) => {
      if (number === 0) return { cutAfter: MiB }
      return authorization === 'Bearer new' ? undefined : { refuse: [401, 'UNAUTHORIZED'] }
    })

    await expect(pull(site.fill, APP, digest, { credential: token('old') })).rejects.toMatchObject({
      kind: 'unauthorized',
    })
    await landed(site.fill)
    expect((await pull(site.fill, APP, digest, { credential: token('new') })).equals(bytes)).toBe(true)
    expect(site.primary.gets().at(-1)?.range?.[0]).toBe(MiB)
  })

  it('is not asked for again when it is about to end: then one request brings everything', async () => {
    const bytes = someBytes(PIECE_BYTES + 10 * MiB)
    const digest = site.primary.hold([APP], bytes)
    site.primary.answer(({ number }) => (number === 0 ? undefined : { refuse: [401, 'UNAUTHORIZED'] }))

    const got = await pull(site.fill, APP, digest, { expiresAtMs: Date.now() + 30_000 })

    expect(got.equals(bytes)).toBe(true)
    expect(site.primary.gets()).toHaveLength(1)
  })
})

it('a stopped site tells waiting clients so, and leaves no flight behind', async () => {
  const digest = site.primary.hold([APP], someBytes(MiB))
  site.primary.answer(() => ({ pause: { after: 100 * KiB, until: NEVER } }))
  const follower = await follow(site.fill, APP, digest)
  const reading = readSpan(follower)
  const opening = site.primary.hold([APP], someBytes(MiB))
  site.primary.answer(() => ({ before: NEVER }))
  const starting = follow(site.fill, APP, opening)
  reading.catch(() => undefined)
  starting.catch(() => undefined)

  await site.fill.close()

  await expect(reading).rejects.toMatchObject({ kind: 'aborted' })
  await expect(starting).rejects.toMatchObject({ kind: 'aborted' })
  await expect(follow(site.fill, APP, digest)).rejects.toMatchObject({ kind: 'aborted' })
  expect(site.fill.inFlight).toBe(0)
  follower.close()
})
