/**
 * Whose authority a flight's requests carry: the newest follower that is still here, else the site's own. A refusal is
 * the refused caller's alone; the flight asks as the next one.
 */
import type { RepositoryName } from '../oci/reference.ts'
import type { UpstreamError } from '../upstream/errors.ts'
import type { Credential } from '../upstream/upstream.ts'

/** A piece of 32 MiB takes this long at 0.3 MB/s; with less to live a credential may be refused for the next one. */
const EXPIRY_MARGIN_MS = 120_000

export interface Caller {
  readonly name: RepositoryName
  readonly credential: Credential
  /** When the credential stops being accepted, wall-clock milliseconds; undefined when it lasts or nobody knows. */
  readonly expiresAtMs?: number | undefined
  readonly requestId?: string | undefined
}

export interface Callers {
  /** The caller can be asked for until the returned function is called. */
  join(caller: Caller): () => void
  /** Who to ask as, or undefined when nobody is left whom the primary has not refused. */
  choose(): Caller | undefined
  /** Whether requests sent much later will be accepted too, as far as anybody knows. */
  readonly areLasting: boolean
  refuse(caller: Caller, error: UpstreamError): void
  /** The last refusal. */
  readonly refusal: UpstreamError | undefined
}

/**
 * `standing` is a credential that needs no caller: the site's own, or none at all where the primary is open. It is used
 * for the repositories in `confirmed`.
 */
export function createCallers(
  confirmed: ReadonlyMap<RepositoryName, unknown>,
  standing: Credential | undefined,
): Callers {
  const present = new Set<Caller>()
  const refused = new Set<string>()
  let refusal: UpstreamError | undefined

  const isRefused = ({ name, credential }: Caller) => refused.has(name) || refused.has(key(name, credential))

  return {
    join(caller) {
      const member = { ...caller }
      present.add(member)
      return () => void present.delete(member)
    },
    choose() {
      const newestFirst = [...present].reverse()
      const standIns = standing ? [...confirmed.keys()].map((name) => ({ name, credential: standing })) : []
      return [...newestFirst, ...standIns].find((caller) => !isRefused(caller))
    },
    refuse({ name, credential }, error) {
      refusal = error
      // Absent is said of the repository; the rest of who asked.
      refused.add(error.kind === 'absent' ? name : key(name, credential))
    },
    get areLasting() {
      if (standing) return true
      const [newest] = [...present].reverse()
      return newest?.expiresAtMs === undefined || newest.expiresAtMs - Date.now() > EXPIRY_MARGIN_MS
    },
    get refusal() {
      return refusal
    },
  }
}

/** A NUL stands in no repository name and no header. */
function key(name: RepositoryName, credential: Credential): string {
  return `${name}\0${credential.kind === 'site' ? '\0' : (credential.authorization ?? '')}`
}

export function isSameCredential(one: Credential, other: Credential): boolean {
  if (one.kind === 'site' || other.kind === 'site') return one.kind === other.kind
  return one.authorization === other.authorization
}
