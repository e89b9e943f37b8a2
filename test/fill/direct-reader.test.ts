/** A client that goes on without its spool wherever it stands, and still gets no byte of the end that is not right. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createDirectReader, type DirectReader } from '../../src/fill/direct-reader.ts'
import { Segments } from '../../src/fill/segments.ts'
import type { ReadableSpool } from '../../src/fill/spool.ts'
import type { Digest } from '../../src/oci/digest.ts'
import { HOLD_BACK_BYTES } from '../../src/store/verify-stream.ts'
import { APP, type FillFixture, fillFixture, KiB, someBytes, token } from './fill-fixture.ts'

const SIZE = 200 * KiB
const HELD_FROM = SIZE - HOLD_BACK_BYTES

let site: FillFixture
beforeEach(async () => {
  site = await fillFixture()
})
afterEach(() => site[Symbol.asyncDispose]())

function spoolOf(digest: Digest, bytes: Buffer): ReadableSpool {
  return {
    digest,
    sizeBytes: bytes.length,
    held: new Segments([[0, bytes.length]]),
    read: async (buffer, length, position) => bytes.copy(buffer, 0, position, position + length),
    retain: () => () => undefined,
  }
}

function readerOf(digest: Digest, spool?: ReadableSpool): DirectReader {
  return createDirectReader({
    upstream: site.upstream,
    caller: { name: APP, credential: token('alice') },
    endByte: Number.POSITIVE_INFINITY,
    ...{ digest, sizeBytes: SIZE, spool },
  })
}

async function readFrom(reader: DirectReader, position: number): Promise<Buffer> {
  const bytes = Buffer.alloc(SIZE - position)
  const { signal } = new AbortController()
  for (let at = position; at < SIZE; ) {
    const part = bytes.subarray(at - position)
    at += await reader.read(part, part.length, at, signal)
  }
  reader.close()
  return bytes
}

describe('a client whose spool is lost', () => {
  it.each([0, 1000, HELD_FROM, HELD_FROM + 1, SIZE - 1])('reads on from byte %i', async (position) => {
    const bytes = someBytes(SIZE)
    const digest = site.primary.hold([APP], bytes)

    const got = await readFrom(readerOf(digest, spoolOf(digest, bytes)), position)

    expect(got.equals(bytes.subarray(position))).toBe(true)
  })

  it('gets nothing of the last 64 KiB when what it was given before was wrong, though it had a part of them', async () => {
    const bytes = someBytes(SIZE)
    const digest = site.primary.hold([APP], bytes)
    const wrong = Buffer.from(bytes)
    wrong.writeUInt8(wrong.readUInt8(5) ^ 0xff, 5)
    const reader = readerOf(digest, spoolOf(digest, wrong))

    await expect(readFrom(reader, HELD_FROM + 10)).rejects.toMatchObject({ kind: 'faulty' })
  })
})
