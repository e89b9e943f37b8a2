/**
 * Blobs by description: pseudo-random bytes are made again on every reading, so that a layer of 2 GiB needs no memory.
 * The same seed and size give the same bytes on every machine.
 */
import { createCipheriv, createHash } from 'node:crypto'
import { buffer } from 'node:stream/consumers'
import { createDigester, type Digest, digestOf } from '../../src/oci/digest.ts'

export interface Content {
  readonly digest: Digest
  readonly sizeBytes: number
  readonly mediaType: string
  /** The bytes from the beginning, as often as asked for. */
  read(): AsyncIterable<Buffer>
}

const CHUNK_BYTES = 256 * 1024
const OCTET_STREAM = 'application/octet-stream'

export function bytesContent(bytes: Uint8Array, mediaType: string = OCTET_STREAM): Content {
  const whole = Buffer.from(bytes)
  return {
    digest: digestOf(whole),
    sizeBytes: whole.length,
    mediaType,
    async *read() {
      yield whole
    },
  }
}

export function jsonContent(value: unknown, mediaType: string): Content {
  return bytesContent(Buffer.from(JSON.stringify(value)), mediaType)
}

/** Incompressible bytes: AES in counter mode over nothing, keyed by the seed. */
export async function* randomBytesOf(sizeBytes: number, seed: string | number): AsyncGenerator<Buffer> {
  const key = createHash('sha256').update(String(seed)).digest()
  const cipher = createCipheriv('aes-128-ctr', key.subarray(0, 16), key.subarray(16))
  for (let left = sizeBytes; left > 0; left -= CHUNK_BYTES) {
    yield cipher.update(ZEROS.subarray(0, Math.min(left, CHUNK_BYTES)))
  }
}
const ZEROS = Buffer.alloc(CHUNK_BYTES)

/** A blob of exactly this size; not a layer that a client could unpack (see `tarLayer`). */
export async function randomContent(
  sizeBytes: number,
  options: { readonly seed?: string | number; readonly mediaType?: string } = {},
): Promise<Content> {
  const { seed = 0, mediaType = OCTET_STREAM } = options
  return await generatedContent(() => randomBytesOf(sizeBytes, seed), mediaType)
}

/** Content that a generator makes; read once here for its digest and size. */
export async function generatedContent(
  read: () => AsyncIterable<Buffer>,
  mediaType: string,
): Promise<Content> {
  const digester = createDigester('sha256')
  let sizeBytes = 0
  for await (const chunk of read()) {
    digester.update(chunk)
    sizeBytes += chunk.length
  }
  return { digest: digester.digest(), sizeBytes, mediaType, read }
}

/** All of it in memory; for small ones. */
export async function contentBytes(content: Content): Promise<Buffer> {
  return await buffer(content.read())
}
