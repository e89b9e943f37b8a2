import { type FileHandle, open, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import pino from 'pino'
import { describe, expect, it } from 'vitest'
import { digestOf } from '../../src/oci/digest.ts'
import { createDescriptorCache, type OpenFile } from '../../src/store/descriptor-cache.ts'
import { tempFolder } from '../support/temp.ts'

const digest = digestOf(Buffer.from('any'))
const log = pino({ level: 'silent' })

async function openFile(path: string, opened: FileHandle[]): Promise<OpenFile> {
  const file = await open(path, 'r')
  opened.push(file)
  return { file, sizeBytes: (await file.stat()).size }
}

describe('a cache of descriptors', () => {
  it('opens a file once for all who ask at the same time', async () => {
    await using folder = await tempFolder()
    const path = await folder.write('file', 'content')
    const opened: FileHandle[] = []
    const cache = createDescriptorCache({ open: () => openFile(path, opened), max: 4, log })

    const descriptors = await Promise.all(Array.from({ length: 20 }, () => cache.acquire(digest)))

    expect(opened).toHaveLength(1)
    for (const descriptor of descriptors) if (descriptor) cache.release(descriptor)
    await cache.close()
    expect(opened[0]?.fd).toBe(-1)
  })

  it('opens again, and closes the first, when the file is replaced while it is being opened', async () => {
    await using folder = await tempFolder()
    const path = await folder.write('file', 'damaged')
    const gate = Promise.withResolvers<void>()
    const opened: FileHandle[] = []
    const cache = createDescriptorCache({
      open: async () => {
        const file = await openFile(path, opened)
        await gate.promise
        return file
      },
      max: 4,
      log,
    })

    const acquiring = cache.acquire(digest)
    await expect.poll(() => opened.length).toBe(1)
    await writeFile(join(folder.path, 'file'), 'mended after all')
    cache.forget(digest)
    gate.resolve()
    const descriptor = await acquiring

    expect(descriptor?.sizeBytes).toBe(16)
    await expect.poll(() => opened.map((file) => file.fd === -1)).toEqual([true, false])
    if (descriptor) cache.release(descriptor)
    await cache.close()
  })

  it('tries again after an open that failed', async () => {
    await using folder = await tempFolder()
    const path = await folder.write('file', 'content')
    const opened: FileHandle[] = []
    let failures = 1
    const cache = createDescriptorCache({
      open: () => (failures-- > 0 ? Promise.reject(new Error('EIO')) : openFile(path, opened)),
      max: 4,
      log,
    })

    await expect(cache.acquire(digest)).rejects.toThrow('EIO')
    const descriptor = await cache.acquire(digest)

    expect(descriptor?.sizeBytes).toBe(7)
    if (descriptor) cache.release(descriptor)
    await cache.close()
  })
})
