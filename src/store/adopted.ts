/**
 * Which blobs came from adopted folders: no link names them yet, and their files are as old as the folder, so garbage
 * collection would take them before the primary's word for them is here. One file of digests per adoption, whose name
 * begins with its wall-clock milliseconds.
 */
import { randomUUID } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdir, open } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { type Digest, parseDigest } from '../oci/digest.ts'
import { isAbsent } from './durable-files.ts'
import type { StorePaths } from './paths.ts'

export interface AdoptionRecord extends AsyncDisposable {
  /** From now on kept from garbage collection. */
  add(digest: Digest): Promise<void>
}

export async function openAdoptionRecord(
  paths: StorePaths,
  now: () => number = Date.now,
): Promise<AdoptionRecord> {
  await mkdir(paths.adopted, { recursive: true })
  const file = await open(join(paths.adopted, `${now()}-${randomUUID()}`), 'ax')
  return {
    // Unsynced: what a power cut takes is kept for a day by its age, and recorded again by the next adoption.
    add: (digest) => file.appendFile(`${digest}\n`),
    [Symbol.asyncDispose]: () => file.close(),
  }
}

/** The digests of one record; none when it is gone. */
export async function* recordedDigests(path: string): AsyncGenerator<Digest> {
  try {
    for await (const line of createInterface({ input: createReadStream(path), crlfDelay: Infinity })) {
      const digest = parseDigest(line)
      if (digest) yield digest
    }
  } catch (error) {
    if (!isAbsent(error)) throw error
  }
}
