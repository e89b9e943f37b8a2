import { closeSync, openSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createSmallBlobs } from '../../proxy/small-blobs.ts'
import { type Digest, digestOf } from '../../src/oci/digest.ts'
import type { OpenBlob } from '../../src/store/blob-store.ts'
import { type TempFolder, tempFolder } from '../support/temp.ts'

let folder: TempFolder
const open: number[] = []
beforeEach(async () => {
  folder = await tempFolder('small-blobs')
})
afterEach(async () => {
  for (const fd of open.splice(0)) closeSync(fd)
  await folder[Symbol.asyncDispose]()
})

function blobOf(bytes: Buffer, digest: Digest = digestOf(bytes)): OpenBlob {
  const path = join(folder.path, String(open.length))
  writeFileSync(path, bytes)
  const fd = openSync(path, 'r')
  open.push(fd)
  return { digest, sizeBytes: bytes.length, fd, close: () => undefined }
}

describe('small blobs in memory', () => {
  it('are those that are asked for again, whole and right', async () => {
    const small = createSmallBlobs({ quarantine: async () => undefined })
    const blob = blobOf(Buffer.from('a config'))

    expect(await small.content(blob)).toBeUndefined()
    expect(String(await small.content(blob))).toBe('a config')
    expect(await small.content(blob)).toBe(await small.content(blob))
  })

  it('are had without their file once they were taken in, and not before', async () => {
    const small = createSmallBlobs({ quarantine: async () => undefined })
    const blob = blobOf(Buffer.from('a config'))
    await small.content(blob)
    expect(small.held(blob.digest)).toBeUndefined()

    await small.content(blob)
    expect(String(small.held(blob.digest))).toBe('a config')
    const sent = small.sending(16 * 1024 * 1024)
    expect(small.held(blob.digest)).toBeUndefined()
    sent()
  })

  it('never are what a disk has damaged: that is put away, to be fetched anew', async () => {
    const quarantined: Digest[] = []
    const small = createSmallBlobs({ quarantine: async (digest) => void quarantined.push(digest) })
    const blob = blobOf(Buffer.from('damaged'), digestOf(Buffer.from('healthy')))

    await small.content(blob)
    expect(await small.content(blob)).toBe('damaged')
    expect(quarantined).toEqual([blob.digest])
  })

  it('are no large ones, and none while slow clients already hold as much as they may', async () => {
    const small = createSmallBlobs({ quarantine: async () => undefined })
    const large = blobOf(Buffer.alloc(1024 * 1024 + 1))
    const config = blobOf(Buffer.from('a config'))
    for (const blob of [large, config]) await small.content(blob)
    expect(await small.content(large)).toBeUndefined()

    const sent = small.sending(16 * 1024 * 1024)
    expect(await small.content(config)).toBeUndefined()
    sent()
    expect(await small.content(config)).toBeDefined()
  })
})
