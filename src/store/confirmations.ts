/**
 * The primary's word, one small file per link and tag: which digest it confirmed, and when it was asked (law 3; for tags
 * only for `outage.maxstale`, law 5). Losing one costs a question; one that outlives what it confirmed would be a lie,
 * so a file is written unsynced but its removal and its expiry are durable.
 */
import { open, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { type Digest, parseDigest } from '../oci/digest.ts'
import type { RepositoryName } from '../oci/reference.ts'
import { type DurableFiles, ignoring, syncFolder } from './durable-files.ts'
import { EXPIRED_AT_MS } from './expiries.ts'
import { readSmallFile } from './link-file.ts'
import type { Entry, StorePaths } from './paths.ts'

export interface Confirmations {
  /** When `digest` was confirmed for the entry, in wall-clock milliseconds; undefined when it was not, or another was. */
  read(name: RepositoryName, entry: Entry, digest: Digest): Promise<number | undefined>
  write(name: RepositoryName, entry: Entry, digest: Digest, atMs: number): Promise<void>
  /** Of one that is there; false, and nothing written, when it was dropped meanwhile, with or without a turn. */
  renew(name: RepositoryName, entry: Entry, digest: Digest, atMs: number): Promise<boolean>
  /** Still confirmed, but longer ago than any `digests.recheck`; durable when it resolves. */
  expire(name: RepositoryName, entry: Entry, digest: Digest): Promise<void>
  /** Of an entry and all below it; durable when it resolves. */
  drop(name: RepositoryName, entry: Entry): Promise<void>
}

export function createConfirmations(paths: StorePaths, files: DurableFiles): Confirmations {
  return {
    read: async (name, entry, digest) => {
      const text = await readSmallFile(paths.confirmation(name, entry))
      const [, confirmed, atMs] = /^(\S+) (\d{1,15})$/.exec(text ?? '') ?? []
      return confirmed !== undefined && parseDigest(confirmed) === digest ? Number(atMs) : undefined
    },
    write: (name, entry, digest, atMs) =>
      files.writeUnsynced(paths.confirmation(name, entry), textOf(digest, atMs)),
    renew: async (name, entry, digest, atMs) => {
      // In place, since a rename would bring back what is being dropped. Who reads between two bytes of it finds a time
      // before both, or one to come, and asks.
      const file = await open(paths.confirmation(name, entry), 'r+').catch(ignoring('ENOENT', 'ENOTDIR'))
      if (!file) return false
      try {
        await file.write(textOf(digest, atMs), 0)
      } finally {
        await file.close()
      }
      return true
    },
    expire: (name, entry, digest) =>
      files.write(paths.confirmation(name, entry), textOf(digest, EXPIRED_AT_MS)),
    drop: async (name, entry) => {
      const path = paths.confirmation(name, entry)
      await rm(path, { recursive: true, force: true })
      // Also when nothing was there: its removal may have been left unsynced by a crash.
      await syncFolder(dirname(path)).catch(ignoring('ENOENT', 'ENOTDIR'))
    },
  }
}

/** Of one length, whatever the time: a renewal leaves nothing of the former. */
function textOf(digest: Digest, atMs: number): string {
  return `${digest} ${String(Math.trunc(atMs)).padStart(13, '0')}`
}
