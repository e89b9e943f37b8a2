/**
 * Which project stands behind a repository path: GitLab's `meta.project_id` and the newest `iat` seen with it, kept
 * across restarts. Decides nothing about content.
 */
import { LRUCache } from 'lru-cache'
import type { RepositoryName } from '../oci/reference.ts'
import type { DurableFiles } from './durable-files.ts'
import { readSmallFile } from './link-file.ts'
import type { StorePaths } from './paths.ts'

export interface Identity {
  readonly projectId: number
  readonly issuedAtSeconds: number
}

export interface Identities {
  /** Whether writing it would change nothing. */
  isKept(name: RepositoryName, identity: Identity): Promise<boolean>
  read(name: RepositoryName): Promise<Identity | undefined>
  /**
   * Durable when it resolves, but for a newer token of the same project, which is on disk to the minute of token time.
   * Remembered, if anything is, also when it throws.
   */
  write(name: RepositoryName, identity: Identity): Promise<void>
}

const MEMORY_ENTRIES = 16_384
const RENEW_SECONDS = 60

interface RememberedIdentity {
  readonly identity: Identity
  /** `issuedAtSeconds` as it is on disk. */
  readonly writtenSeconds: number
}

/** `remember`: nobody else writes them. Otherwise what is on disk is all that is known, each time. */
export function createIdentities(paths: StorePaths, files: DurableFiles, remember: boolean): Identities {
  const seen = remember
    ? new LRUCache<RepositoryName, RememberedIdentity>({ max: MEMORY_ENTRIES })
    : undefined

  async function load(name: RepositoryName): Promise<RememberedIdentity | undefined> {
    const text = await readSmallFile(paths.project(name))
    const [, projectId, issuedAtSeconds] = /^(\d{1,15}) (\d{1,15})$/.exec(text ?? '') ?? []
    if (projectId === undefined) return undefined
    const identity = { projectId: Number(projectId), issuedAtSeconds: Number(issuedAtSeconds) }
    return { identity, writtenSeconds: identity.issuedAtSeconds }
  }

  async function known(name: RepositoryName): Promise<RememberedIdentity | undefined> {
    const remembered = seen?.get(name)
    if (remembered) return remembered
    const loaded = await load(name)
    // What was written meanwhile is newer than what was read.
    const written = seen?.get(name)
    if (loaded && !written) seen?.set(name, loaded)
    return written ?? loaded
  }

  return {
    isKept: async (name, { projectId, issuedAtSeconds }) => {
      const held = remember ? seen?.get(name) : await load(name)
      if (held?.identity.projectId !== projectId) return false
      const keptSeconds = held.identity.issuedAtSeconds
      return issuedAtSeconds <= keptSeconds || (!remember && issuedAtSeconds - keptSeconds < RENEW_SECONDS)
    },
    read: async (name) => (await known(name))?.identity,
    write: async (name, identity) => {
      const held = await known(name)
      const isRenewal = held?.identity.projectId === identity.projectId
      const writtenSeconds = isRenewal ? held.writtenSeconds : -Infinity
      seen?.set(name, { identity, writtenSeconds })
      if (identity.issuedAtSeconds - writtenSeconds < RENEW_SECONDS) return
      await files.write(paths.project(name), `${identity.projectId} ${identity.issuedAtSeconds}`)
      seen?.set(name, { identity, writtenSeconds: identity.issuedAtSeconds })
    },
  }
}
