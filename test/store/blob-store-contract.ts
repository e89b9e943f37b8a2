/** What every blob store owes its callers, whatever it keeps its bytes in. */
import { fstatSync, readSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type Digest, digestOf } from '../../src/oci/digest.ts'
import type { BlobStore, OpenBlob } from '../../src/store/blob-store.ts'

export interface BlobStoreSubject extends AsyncDisposable {
  readonly blobs: BlobStore
  /** A folder from which complete files may be published. */
  readonly spools: string
}

export function blobStoreContract(make: () => Promise<BlobStoreSubject>): void {
  let subject: BlobStoreSubject
  let blobs: BlobStore
  beforeEach(async () => {
    subject = await make()
    blobs = subject.blobs
  })
  afterEach(() => subject[Symbol.asyncDispose]())

  describe.each(['sha256', 'sha512'] as const)('a blob by %s', (algorithm) => {
    const bytes = Buffer.from('what a layer holds')
    const digest = digestOf(bytes, algorithm)

    it('is absent until it is written, then has its size and its bytes', async () => {
      expect(await blobs.stat(digest)).toBeUndefined()
      expect(await blobs.open(digest)).toBeUndefined()
      expect(await blobs.read(digest, 1000)).toBeUndefined()

      await blobs.write(digest, bytes)

      expect(await blobs.stat(digest)).toBe(bytes.length)
      expect(await blobs.read(digest, 1000)).toEqual(bytes)
      expect(contentOf(await opened(blobs, digest))).toEqual(bytes)
    })

    it('is published from a complete file, which is gone afterwards', async () => {
      const spool = join(subject.spools, 'spool')
      await writeFile(spool, bytes)

      await blobs.publish(spool, digest)

      expect(await blobs.read(digest, 1000)).toEqual(bytes)
      await expect(blobs.publish(spool, digest)).rejects.toMatchObject({ name: 'StoreError', kind: 'io' })
      expect(await blobs.read(digest, 1000)).toEqual(bytes)
    })

    it('is refused when its bytes are others, and stays absent', async () => {
      const wrong = blobs.write(digest, Buffer.from('something else'))

      await expect(wrong).rejects.toMatchObject({ name: 'StoreError', kind: 'mismatch' })
      expect(await blobs.stat(digest)).toBeUndefined()
    })

    it('is out of sight once quarantined, and may be written again', async () => {
      await blobs.write(digest, bytes)
      const reader = await opened(blobs, digest)

      await blobs.quarantine(digest)

      expect(await blobs.stat(digest)).toBeUndefined()
      expect(await blobs.open(digest)).toBeUndefined()
      await blobs.quarantine(digest)
      await blobs.write(digest, bytes)
      expect(await blobs.read(digest, 1000)).toEqual(bytes)
      expect(contentOf(reader)).toEqual(bytes)
    })
  })

  it('keeps an empty blob', async () => {
    const digest = digestOf(Buffer.alloc(0))
    await blobs.write(digest, Buffer.alloc(0))

    expect(await blobs.stat(digest)).toBe(0)
    expect(await blobs.read(digest, 0)).toEqual(Buffer.alloc(0))
  })

  it('reads whole content up to the limit and not a byte more', async () => {
    const bytes = Buffer.alloc(100, 'm')
    await blobs.write(digestOf(bytes), bytes)

    expect(await blobs.read(digestOf(bytes), 100)).toEqual(bytes)
    expect(await blobs.read(digestOf(bytes), 99)).toBeUndefined()
  })

  it('keeps what is open readable until it is closed, by each reader for itself', async () => {
    const bytes = Buffer.from('shared by two')
    const digest = digestOf(bytes)
    await blobs.write(digest, bytes)
    const [first, second] = [await opened(blobs, digest), await opened(blobs, digest)]

    first.close()
    first.close()
    await blobs.quarantine(digest)

    expect(contentOf(second, false)).toEqual(bytes)
    second.close()
  })

  it('lets many write and read the same blob at once', async () => {
    const bytes = Buffer.alloc(300_000, 'x')
    const digest = digestOf(bytes)

    const results = await Promise.all(
      Array.from({ length: 20 }, async () => {
        await blobs.write(digest, bytes)
        return (await blobs.read(digest, bytes.length))?.equals(bytes)
      }),
    )

    expect(new Set(results)).toEqual(new Set([true]))
  })
}

async function opened(blobs: BlobStore, digest: Digest): Promise<OpenBlob> {
  const blob = await blobs.open(digest)
  if (!blob) throw new Error(`${digest} is not here`)
  return blob
}

function contentOf(blob: OpenBlob, close = true): Buffer {
  const bytes = Buffer.alloc(fstatSync(blob.fd).size)
  readSync(blob.fd, bytes, 0, bytes.length, 0)
  expect(blob.sizeBytes).toBe(bytes.length)
  if (close) blob.close()
  return bytes
}
