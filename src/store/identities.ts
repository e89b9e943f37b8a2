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
  /** From memory only. */
  peek(name: RepositoryName): Identity | undefined
  read(name: RepositoryName): Promise<Identity | undefined>
  /**
   * Durable when it resolves, but for a newer token of the same project, which is on disk to the minute of token time.
   * Remembered also when it throws.
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

export function createIdentities(paths: StorePaths, files: DurableFiles): Identities {
  const seen = new LRUCache<RepositoryName, RememberedIdentity>({ max: MEMORY_ENTRIES })

  return {
    peek: (name) => seen.get(name)?.identity,
    read: async (name) => {
      const known = seen.get(name)
      if (known) return known.identity
      const text = await readSmallFile(paths.project(name))
      const [, projectId, issuedAtSeconds] = /^(\d{1,15}) (\d{1,15})$/.exec(text ?? '') ?? []
      if (projectId === undefined) return undefined
      const identity = { projectId: Number(projectId), issuedAtSeconds: Number(issuedAtSeconds) }
      seen.set(name, { identity, writtenSeconds: identity.issuedAtSeconds })
      return identity
    },
    write: async (name, identity) => {
      const known = seen.get(name)
      const isRenewal = known?.identity.projectId === identity.projectId
      const writtenSeconds = isRenewal ? known.writtenSeconds : -Infinity
      seen.set(name, { identity, writtenSeconds })
      if (identity.issuedAtSeconds - writtenSeconds < RENEW_SECONDS) return
      await files.write(paths.project(name), `${identity.projectId} ${identity.issuedAtSeconds}`)
      seen.set(name, { identity, writtenSeconds: identity.issuedAtSeconds })
    },
  }
}
