/** What becomes of a fetch whose process leaves, sleeps, is killed, or loses Redis: nobody's pull notices. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { openSharedSpools } from '../../src/fill/shared-spools.ts'
import type { Digest } from '../../src/oci/digest.ts'
import { until } from '../support/wait.ts'
import { APP, follow, landed, MiB, pull, readSpan, someBytes, token } from './fill-fixture.ts'
import { type SharedFixture, sharedFixture } from './shared-fixture.ts'

const PIECE = 4 * MiB
const SIZE = 6 * PIECE
const SITE = { kind: 'site' } as const

let shared: SharedFixture
beforeEach(async () => {
  shared = await sharedFixture(() => ({ pieceBytes: PIECE }))
})
afterEach(() => shared[Symbol.asyncDispose]())

function saidToHold(digest: Digest, bytes: number): Promise<true> {
  return until(() => shared.table.said(digest)?.held[0]?.[1] === bytes, { what: `${bytes} bytes to be told` })
}

describe('a process whose last client leaves', () => {
  it('leaves the fetch to a process that has one, which asks for no byte twice', async () => {
    const [one, two] = shared.processes
    const bytes = someBytes(SIZE)
    const digest = shared.site.primary.hold([APP], bytes)
    const goOn = shared.site.primary.pauseFirst(MiB)
    const leaver = await follow(one.fill, APP, digest)
    const stayer = await follow(two.fill, APP, digest, { credential: token('bob') })
    await readSpan(stayer, 0, MiB)

    leaver.close()
    goOn()

    expect((await readSpan(stayer, MiB)).equals(bytes.subarray(MiB))).toBe(true)
    stayer.close()
    await shared.allLanded()
    expect(await shared.receivedBytes()).toBe(SIZE)
    expect(await one.receivedBytes()).toBeLessThanOrEqual(2 * PIECE)
    expect(await shared.site.spools()).toEqual([])
    expect(await two.store.index.link(APP, 'layer', digest)).toMatchObject({ target: digest })
  })

  it('goes on by itself where it has a credential of its own, and links for those who were confirmed elsewhere', async () => {
    await shared[Symbol.asyncDispose]()
    shared = await sharedFixture(() => ({ pieceBytes: PIECE, siteCredential: SITE }))
    const [one, two] = shared.processes
    const digest = shared.site.primary.hold([APP], someBytes(SIZE))
    const goOn = shared.site.primary.pauseFirst(MiB)
    const clients = [await follow(one.fill, APP, digest), await follow(two.fill, APP, digest)]

    for (const client of clients) client.close()
    goOn()

    await shared.allLanded()
    expect(await shared.receivedBytes()).toBe(SIZE)
    expect(await one.receivedBytes()).toBe(SIZE)
    expect(await two.store.index.link(APP, 'layer', digest)).toMatchObject({ target: digest })
  })

  it('that shuts down hands the fetch over', async () => {
    const [one, two, three] = shared.processes
    const bytes = someBytes(SIZE)
    const digest = shared.site.primary.hold([APP], bytes)
    shared.site.primary.pauseFirst(MiB)
    const first = await follow(one.fill, APP, digest)
    const others = [await follow(two.fill, APP, digest), await follow(three.fill, APP, digest)]
    for (const other of others) await readSpan(other, 0, MiB)

    await one.fill.close()

    await expect(readSpan(first)).rejects.toMatchObject({ kind: 'aborted' })
    for (const other of others) {
      expect((await readSpan(other)).equals(bytes)).toBe(true)
      other.close()
    }
    first.close()
    await shared.allLanded()
    // What was on its way to the one that left is the only thing that may come twice.
    expect(await shared.receivedBytes()).toBe(SIZE)
  })
})

describe('a process that falls asleep in the middle of a fetch', () => {
  it('is replaced, and harms nothing when it wakes', async () => {
    const { site, table, processes } = shared
    const [one, two, three] = processes
    const bytes = someBytes(SIZE)
    const digest = site.primary.hold([APP], bytes)
    const goOn = shared.site.primary.pauseFirst(MiB + 1000)
    const sleeper = await follow(one.fill, APP, digest)
    const others = [await follow(two.fill, APP, digest), await follow(three.fill, APP, digest)]
    for (const other of others) await readSpan(other, 0, MiB + 1000)
    await saidToHold(digest, MiB + 1000)

    const wake = table.silence(digest)

    for (const other of others) expect((await readSpan(other)).equals(bytes)).toBe(true)
    wake()
    goOn()
    expect((await readSpan(sleeper)).equals(bytes)).toBe(true)
    for (const one of [sleeper, ...others]) one.close()
    await shared.allLanded()
    // Two and three together asked for what the sleeper had not told of.
    expect((await two.receivedBytes()) + (await three.receivedBytes())).toBe(SIZE - MiB - 1000)
    expect((await site.store.blobs.read(digest, SIZE))?.equals(bytes)).toBe(true)
    expect(await site.spools()).toEqual([])
  })

  it('cannot spoil what the others publish, whatever it writes', async () => {
    const { site, table, processes } = shared
    const [one, two] = processes
    const bytes = someBytes(SIZE)
    const digest = site.primary.hold([APP], bytes)
    const gate = Promise.withResolvers<void>()
    // It is lied to behind the first MiB.
    site.primary.answer(({ authorization }) =>
      authorization === 'Bearer sleeper'
        ? { pause: { after: MiB, until: gate.promise }, wrongByteAt: MiB + 5 }
        : undefined,
    )
    const sleeper = await follow(one.fill, APP, digest, { credential: token('sleeper') })
    const other = await follow(two.fill, APP, digest)
    await saidToHold(digest, MiB)
    table.silence(digest)
    await readSpan(other, 0, 2 * PIECE)

    gate.resolve()

    await expect(readSpan(sleeper)).rejects.toMatchObject({ kind: 'faulty' })
    expect((await readSpan(other)).equals(bytes)).toBe(true)
    for (const one of [sleeper, other]) one.close()
    await shared.allLanded()
    expect((await site.store.blobs.read(digest, SIZE))?.equals(bytes)).toBe(true)
  })

  it('leaves alone a lone reader of the beginning when the blob is published by another', async () => {
    const { table, processes, site } = shared
    const [one, two, three] = processes
    const bytes = someBytes(SIZE)
    const digest = site.primary.hold([APP], bytes)
    shared.site.primary.pauseFirst(MiB)
    const sleeper = await follow(one.fill, APP, digest)
    const slow = await follow(two.fill, APP, digest)
    await readSpan(slow, 0, 1000)
    await saidToHold(digest, MiB)
    const wake = table.silence(digest)
    expect((await pull(three.fill, APP, digest)).equals(bytes)).toBe(true)
    await landed(three.fill)

    expect((await readSpan(slow)).equals(bytes)).toBe(true)

    wake()
    expect((await readSpan(sleeper)).equals(bytes)).toBe(true)
    for (const one of [sleeper, slow]) one.close()
    await shared.allLanded()
  })
})

describe('while Redis is away', () => {
  it('a client gets the blob from the primary, and a job is told that it cannot be kept', async () => {
    const { site, table, processes } = shared
    const [one] = processes
    const bytes = someBytes(MiB)
    const digest = site.primary.hold([APP], bytes)
    table.away = true

    expect((await pull(one.fill, APP, digest)).equals(bytes)).toBe(true)
    const job = one.fill.fetch(APP, digest, { credential: SITE, signal: AbortSignal.timeout(10_000) })
    await expect(job).rejects.toMatchObject({ name: 'StoreError', kind: 'io' })

    expect(await site.store.blobs.stat(digest)).toBeUndefined()
    expect(await site.spools()).toEqual([])
    table.away = false
    expect((await pull(one.fill, APP, digest)).equals(bytes)).toBe(true)
    await shared.allLanded()
    expect(await site.store.blobs.stat(digest)).toBe(MiB)
  })

  it('a fetch under way ends, its clients in every process read on from the primary, and the next pull resumes it', async () => {
    const { site, table, processes } = shared
    const [one, two] = processes
    const bytes = someBytes(SIZE)
    const digest = site.primary.hold([APP], bytes)
    shared.site.primary.pauseFirst(3 * MiB)
    const clients = [await follow(one.fill, APP, digest), await follow(two.fill, APP, digest)]
    for (const client of clients) await readSpan(client, 0, MiB)
    await saidToHold(digest, 3 * MiB)

    table.loseAll()

    for (const client of clients) expect((await readSpan(client, MiB)).equals(bytes.subarray(MiB))).toBe(true)
    for (const client of clients) client.close()
    await shared.allLanded()
    expect(await site.store.blobs.stat(digest)).toBeUndefined()
    table.away = false
    const before = await shared.receivedBytes()
    expect((await pull(two.fill, APP, digest)).equals(bytes)).toBe(true)
    await shared.allLanded()
    expect((await shared.receivedBytes()) - before).toBeLessThanOrEqual(SIZE - 3 * MiB)
  })

  it('no spool is swept, and what another process has under way never is', async () => {
    const { site, table, processes } = shared
    const [one, two] = processes
    const digest = site.primary.hold([APP], someBytes(SIZE))
    shared.site.primary.pauseFirst(MiB)
    const under = await follow(one.fill, APP, digest)
    await saidToHold(digest, MiB)
    const orphan = `sha256-${'a'.repeat(64)}.${'0'.repeat(16)}.data`
    await writeFile(join(site.store.paths.spools, orphan), 'left by nobody knows whom')
    const before = new Set(await site.spools())
    const { isTaken } = table.leases()
    const spools = await openSharedSpools(site.store.paths.spools, isTaken)

    table.away = true
    await spools.sweep(() => false)
    expect(new Set(await site.spools())).toEqual(before)

    table.away = false
    await spools.sweep(() => false)
    before.delete(orphan)
    expect(new Set(await site.spools())).toEqual(before)
    under.close()
    await two.fill.close()
  })
})
