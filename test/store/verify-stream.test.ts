import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { digestOf } from '../../src/oci/digest.ts'
import { createVerifyStream, HOLD_BACK_BYTES } from '../../src/store/verify-stream.ts'

interface Passed {
  readonly bytes: Buffer
  readonly error: unknown
}

/** What a reader gets of a body, and how it ended. */
async function pass(
  chunks: readonly Buffer[],
  stream: ReturnType<typeof createVerifyStream>,
): Promise<Passed> {
  const got: Buffer[] = []
  try {
    await pipeline(Readable.from(chunks), stream, async (source: AsyncIterable<Buffer>) => {
      for await (const chunk of source) got.push(chunk)
    })
    return { bytes: Buffer.concat(got), error: undefined }
  } catch (error) {
    return { bytes: Buffer.concat(got), error }
  }
}

function chunked(bytes: Buffer, sizes: readonly number[]): Buffer[] {
  const chunks: Buffer[] = []
  let from = 0
  for (const size of sizes) {
    chunks.push(bytes.subarray(from, from + size))
    from += size
  }
  return [...chunks, bytes.subarray(from)].filter((chunk) => chunk.length > 0)
}

describe('a verified body', () => {
  it('passes unchanged however it is cut into chunks', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.uint8Array({ maxLength: 400, size: 'max' }),
        fc.array(fc.integer({ min: 1, max: 90 }), { maxLength: 20 }),
        fc.integer({ min: 0, max: 500 }),
        fc.constantFrom('sha256' as const, 'sha512' as const),
        async (content, sizes, holdBackBytes, algorithm) => {
          const bytes = Buffer.from(content)
          const stream = createVerifyStream(digestOf(bytes, algorithm), bytes.length, { holdBackBytes })

          expect(await pass(chunked(bytes, sizes), stream)).toEqual({ bytes, error: undefined })
        },
      ),
    )
  })

  it('never ends when a byte of it is wrong, and keeps its last bytes to itself', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.uint8Array({ minLength: 1, maxLength: 400, size: 'max' }),
        fc.nat(),
        fc.integer({ min: 0, max: 500 }),
        async (content, at, holdBackBytes) => {
          const bytes = Buffer.from(content)
          const wrong = Buffer.from(bytes)
          wrong[at % wrong.length] = (wrong[at % wrong.length] ?? 0) ^ 1
          const stream = createVerifyStream(digestOf(bytes), bytes.length, { holdBackBytes })

          const passed = await pass(chunked(wrong, [7, 90]), stream)

          expect(passed.error).toMatchObject({ name: 'StoreError', kind: 'mismatch' })
          expect(passed.bytes.length).toBeLessThanOrEqual(Math.max(0, bytes.length - holdBackBytes))
        },
      ),
    )
  })

  it.each([
    ['short', -1],
    ['long', 1],
    ['empty', -100_000],
  ])('errors when it is %s', async (_how, difference) => {
    const bytes = Buffer.alloc(100_000, 'b')
    const sent = Buffer.concat([bytes, bytes]).subarray(0, bytes.length + difference)

    const passed = await pass(chunked(sent, [50_000]), createVerifyStream(digestOf(bytes), bytes.length))

    expect(passed.error).toMatchObject({ name: 'StoreError', kind: 'mismatch' })
    expect(passed.bytes.length).toBeLessThanOrEqual(bytes.length - HOLD_BACK_BYTES)
  })

  it('lets everything but the last 64 KiB through before it has ended', async () => {
    const bytes = Buffer.alloc(200_000, 'c')
    const stream = createVerifyStream(digestOf(bytes), bytes.length)
    let seen = 0
    stream.on('data', (chunk: Buffer) => {
      seen += chunk.length
    })

    stream.write(bytes)
    await expect.poll(() => seen).toBe(200_000 - HOLD_BACK_BYTES)
    stream.end()

    await expect.poll(() => seen).toBe(200_000)
  })

  it('ends an empty body that was meant to be empty', async () => {
    const empty = Buffer.alloc(0)

    expect(await pass([], createVerifyStream(digestOf(empty), 0))).toEqual({ bytes: empty, error: undefined })
  })
})
