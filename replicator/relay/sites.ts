/** The sites that may read the relay's log, by their tokens, and how far each of them is. */
import { sameSecret } from '../../src/http-listener.ts'
import type { RelayLog } from './log.ts'

export interface SiteAccess {
  readonly name: string
  /** Asked for at each request, since its file may change; an empty one lets nobody in. */
  readonly token: () => string
}

export interface SiteStatus {
  readonly name: string
  /** It is asking now, or did a moment ago. */
  readonly connected: boolean
  /** Its questions that are held, or whose answer it has not taken yet. */
  readonly asking: number
  /** The last number it has; undefined while it has not said. */
  readonly through: number | undefined
  /** How many records it does not have yet; undefined while it is not known. */
  readonly behind: number | undefined
  /** How long ago, in log time, the oldest record was taken that it does not have; 0 when it has all. */
  readonly lagMs: number | undefined
  /** Since it asked last; undefined: never since the relay started. */
  readonly lastSeenMs: number | undefined
}

/** One site as the listener sees it. */
export interface KnownSite {
  readonly name: string
  /** Requests of it that are not answered yet. */
  asking: number
  /** The note it was given last. */
  note: string | undefined
  through: number | undefined
  seenAtMs: number | undefined
}

export interface Sites {
  /** The site whose token the value of `Authorization` bears. */
  admit(authorization: string | undefined): KnownSite | undefined
  status(): SiteStatus[]
}

/** How long after its last request a site still counts as connected: it asks again at once, or after a short pause. */
const PAUSE_MS = 10_000
const BEARER = /^bearer +(\S+) *$/i

export function createSites(
  access: readonly SiteAccess[],
  relayLog: Pick<RelayLog, 'first' | 'last' | 'ageMs'>,
  now: () => number,
): Sites {
  const known = access.map(({ name, token }) => {
    const site: KnownSite = { name, asking: 0, note: undefined, through: undefined, seenAtMs: undefined }
    return { site, token }
  })
  return {
    admit(authorization = '') {
      const presented = BEARER.exec(authorization)?.[1] ?? ''
      // Every token is looked at, so that the time tells nothing about which one was near.
      const matching = known.filter(({ token }) => {
        const expected = token()
        return sameSecret(presented, expected) && expected !== ''
      })
      return matching[0]?.site
    },
    status: () =>
      known.map(({ site: { name, asking, through, seenAtMs } }) => {
        const lastSeenMs = seenAtMs === undefined ? undefined : now() - seenAtMs
        return {
          name,
          connected: asking > 0 || (lastSeenMs !== undefined && lastSeenMs < PAUSE_MS),
          asking,
          through,
          behind: through === undefined ? undefined : relayLog.last - through,
          lagMs: through === undefined ? undefined : relayLog.ageMs(Math.max(through + 1, relayLog.first)),
          lastSeenMs,
        }
      }),
  }
}
