/**
 * What every answer may be: tags and digests from the writes that were sent and their outcomes, blobs from their pushes
 * (none is ever deleted), errors from the disturbances there were. Times are milliseconds of one monotonic clock. Each
 * verdict is undefined when the answer is right, or says in words what is wrong with it.
 */
import { createHistory, type History, type Span, type Value, type Write } from '../e2e/model-history.ts'
import type { Disturbances, Effect, Place } from './disturbances.ts'

export interface Rules {
  /** How late a write elsewhere may be known here: `tags.trust`, or `tags.maxstaleness` under a watermark. */
  readonly stalenessMs: number
  /** `outage.maxstale` */
  readonly maxStaleMs: number
  /** `digests.recheck` */
  readonly recheckMs: number
}

export interface Reply extends Span {
  /** Undefined: the connection broke off, before the head or within the body. */
  readonly status: number | undefined
  /** `Geo-Registry-Source` */
  readonly source: string | undefined
  readonly hasWarning: boolean
  /** `Docker-Content-Digest` */
  readonly digest: string | undefined
  /** Of the bytes that came; undefined for a HEAD. */
  readonly bodyDigest: string | undefined
  /** The end of what an error said. */
  readonly words: string
}

export type Verdict = string | undefined

export interface Asked {
  readonly place: Place
  readonly repository: string
  /** Law 4: a HEAD with a token for more than pulls, which the primary answers. Default false. */
  readonly decidesUpload?: boolean
}

export interface Pending {
  /** With what came of it. */
  settle(reply: Reply): void
}

export interface Model {
  beginPush(asked: Asked, digest: string, tag: string | undefined): Pending
  beginDelete(asked: Asked, digest: string): Pending
  beginBlob(repository: string, digest: string): Pending
  judgeTag(asked: Asked, tag: string, reply: Reply): Verdict
  judgeDigest(asked: Asked, digest: string, reply: Reply): Verdict
  /** `expected`: of the bytes asked for; default all of the blob. */
  judgeBlob(asked: Asked, digest: string, reply: Reply, expected?: string): Verdict
  /** The primary's word on a write; `accepted` are the statuses besides success that are no fault. */
  judgeWrite(asked: Asked, reply: Reply, accepted?: readonly number[]): Verdict
  /** As `judgeWrite`, where a part may have been lost on the way: the primary then refuses the rest. */
  judgeUpload(asked: Asked, reply: Reply): Verdict
  /** To whom nothing may be given; `elsewhere`: by a token that is good for the path. */
  judgeIntrusion(asked: Asked, reply: Reply, elsewhere: boolean): Verdict
  /** Whether the answer is an error, which says nothing about what is there. */
  isError(reply: Reply): boolean
  /** Forgets what no answer can be any more. */
  forget(): void
}

export interface ModelOptions {
  readonly rules: Readonly<Partial<Record<Place, Rules>>>
  readonly tags: readonly string[]
  readonly disturbances: Pick<Disturbances, 'explain'>
  readonly now: () => number
}

/** A write whose answer was lost has landed by then or never will: every line and process that may hold it is back. */
const LANDS_WITHIN_MS = 30_000
/** What it takes to ask once more before something is taken out of sight. */
const ASKING_MS = 10_000
const REMEMBERED_BLOBS = 2_000
/** A process waits this long at most for a Redis that does not answer. */
const TAKEN_BACK_MS = 2_000
const NO_RULES: Rules = { stalenessMs: 0, maxStaleMs: 0, recheckMs: 0 }

interface BlobPush {
  readonly start: number
  end: number
}

export function createModel({ rules, tags, disturbances, now }: ModelOptions): Model {
  const histories = new Map<string, Map<string, History>>()
  const blobs = new Map<string, BlobPush>()
  /** Blobs that were answered from the disk, and where and when first. */
  const held = new Map<string, { readonly place: Place; readonly atMs: number }>()
  /** Of each repository: docker-registry writes its links in place, and answers 500 to whoever reads one just then. */
  const writing = new Map<string, Span[]>()

  function history(repository: string, key: string): History {
    const known = histories.get(repository) ?? new Map<string, History>()
    histories.set(repository, known)
    const found = known.get(key) ?? createHistory()
    known.set(key, found)
    return found
  }
  const rulesOf = (place: Place) => rules[place] ?? NO_RULES

  function explained({ place, repository }: Asked, effects: readonly Effect[], span: Span): boolean {
    if (disturbances.explain(place, effects, span) !== undefined) return true
    if (!effects.includes('away')) return false
    return (writing.get(repository) ?? []).some(({ start, end }) => start < span.end && span.start < end)
  }

  /** What is linked in the moment in which Redis goes away is taken back: nobody can say that it was not removed. */
  function isHeld(key: string): boolean {
    const seen = held.get(key)
    if (!seen) return false
    const span = { start: seen.atMs, end: seen.atMs + TAKEN_BACK_MS }
    return disturbances.explain(seen.place, ['shared state'], span) === undefined
  }

  /** An error, if it is one, and whether anything explains it. */
  function judgeError(asked: Asked, reply: Reply, effects: readonly Effect[]): Verdict {
    if (!isError(reply) || explained(asked, effects, reply)) return undefined
    return reply.status === undefined
      ? 'the connection broke off, and nothing explains it'
      : `it is answered ${reply.status}, and nothing explains it: ${reply.words}`
  }

  function begin(
    { place, repository }: Asked,
    kind: Write['kind'],
    digest: string,
    keys: readonly string[],
  ): Pending {
    const start = now()
    const span = { start, end: Number.POSITIVE_INFINITY }
    const spans = writing.get(repository) ?? []
    writing.set(repository, spans)
    spans.push(span)
    const pending = keys.map((key) => history(repository, key).begin({ kind, digest, via: place, start }))
    return {
      settle(reply) {
        span.end = reply.end
        const outcome = outcomeOf(reply)
        for (const one of pending) one.settle(outcome, reply.end, reply.end + LANDS_WITHIN_MS)
      },
    }
  }

  /** What the headers say of where it came from. */
  function judgeMarks(asked: Asked, reply: Reply): Verdict {
    const isStale = reply.source === 'stale'
    if (isStale !== reply.hasWarning) return 'stale and Warning do not go together'
    if (isStale && asked.decidesUpload) return 'a HEAD that decides an upload is answered from here'
    if (isStale && !explained(asked, ['away'], reply)) return 'it is stale, and nothing explains it'
    if (asked.decidesUpload && asked.place !== 'primary' && reply.source !== 'primary') {
      return `a HEAD that decides an upload is answered by ${reply.source}`
    }
    return undefined
  }

  function judgeManifest(asked: Asked, key: string, reply: Reply, latenessMs: number): Verdict {
    const error = judgeError(asked, reply, ['down', 'away'])
    if (error !== undefined || isError(reply)) return error
    const marks = judgeMarks(asked, reply)
    if (marks !== undefined) return marks
    const { status, digest, bodyDigest } = reply
    if (status !== 200 && status !== 404) return `it is answered ${status}: ${reply.words}`
    const value: Value = status === 404 ? undefined : digest
    if (status === 200 && value === undefined) return 'there is no Docker-Content-Digest'
    if (bodyDigest !== undefined && status === 200 && bodyDigest !== value) {
      return `the bytes are ${bodyDigest}, which is not ${value}`
    }
    // Absence is always the primary's own word.
    const bound = value === undefined || asked.decidesUpload ? 0 : latenessMs
    const lateness = ({ via }: Write) => (via === asked.place ? 0 : bound)
    if (history(asked.repository, key).mayBe(value, reply, { lateness })) return undefined
    return value === undefined
      ? 'it is answered 404, and it is there'
      : `it is ${value}, which is older than the rule allows (${bound} ms), or never was there`
  }

  function judgeWrite(asked: Asked, reply: Reply, accepted: readonly number[] = []): Verdict {
    const error = judgeError(asked, reply, ['down', 'away', 'shared state'])
    if (error !== undefined || isError(reply)) return error
    const { status = 0 } = reply
    return status < 300 || accepted.includes(status) ? undefined : `it is answered ${status}: ${reply.words}`
  }

  return {
    beginPush: (asked, digest, tag) =>
      begin(asked, 'put', digest, tag === undefined ? [digest] : [tag, digest]),
    // Distribution 2.8 takes every tag of a digest with it.
    beginDelete: (asked, digest) => begin(asked, 'delete', digest, [...tags, digest]),
    beginBlob(repository, digest) {
      const key = `${repository} ${digest}`
      const push = blobs.get(key) ?? { start: now(), end: Number.POSITIVE_INFINITY }
      blobs.set(key, push)
      return {
        settle(reply) {
          if (outcomeOf(reply) === 'acknowledged') push.end = Math.min(push.end, reply.end)
        },
      }
    },
    judgeTag(asked, tag, reply) {
      const { stalenessMs, maxStaleMs } = rulesOf(asked.place)
      const latenessMs = reply.source === 'stale' ? maxStaleMs + stalenessMs : stalenessMs
      return judgeManifest(asked, tag, reply, latenessMs)
    },
    judgeDigest(asked, digest, reply) {
      if (reply.status === 200 && reply.digest !== digest) return `it is answered with ${reply.digest}`
      // An outage removes nothing.
      const latenessMs = reply.source === 'stale' ? Number.POSITIVE_INFINITY : rulesOf(asked.place).recheckMs
      return judgeManifest(asked, digest, reply, latenessMs + ASKING_MS)
    },
    judgeBlob(asked, digest, reply, expected = digest) {
      const key = `${asked.repository} ${digest}`
      const heldKey = `${asked.place} ${key}`
      const mustAnswer = isHeld(heldKey) && !asked.decidesUpload
      const error = judgeError(asked, reply, mustAnswer ? ['down'] : ['down', 'away'])
      if (error !== undefined) return mustAnswer ? `it is held here, and ${error}` : error
      if (isError(reply)) return undefined
      const marks = judgeMarks(asked, reply)
      if (marks !== undefined) return marks
      const { status, bodyDigest } = reply
      const push = blobs.get(key)
      if (status === 404) {
        return push && push.end < reply.start ? 'it is answered 404, and it is there' : undefined
      }
      if (status !== 200 && status !== 206) return `it is answered ${status}: ${reply.words}`
      if (bodyDigest !== undefined && bodyDigest !== expected) return `its bytes are ${bodyDigest}`
      if (push && push.start > reply.end) return 'it was never pushed here'
      const isWhole = status === 200 && bodyDigest !== undefined
      const { place } = asked
      if (reply.source === 'local' && isWhole && !isHeld(heldKey))
        held.set(heldKey, { place, atMs: reply.end })
      return undefined
    },
    judgeWrite,
    judgeUpload(asked, reply) {
      const wrong = judgeWrite(asked, reply)
      const isRefused = reply.status !== undefined && reply.status >= 400 && reply.status < 500
      return isRefused && explained(asked, ['down', 'away'], reply) ? undefined : wrong
    },
    judgeIntrusion(asked, reply, elsewhere) {
      const { status } = reply
      if (status === undefined) return judgeError(asked, reply, elsewhere ? ['down', 'away'] : ['down'])
      if (elsewhere && isError(reply)) return judgeError(asked, reply, ['down', 'away'])
      if (status === 401 || status === 403 || (elsewhere && status === 404)) return undefined
      return `who may not have it is answered ${status}`
    },
    isError,
    forget() {
      const longest = Math.max(
        ...Object.values(rules).map(({ maxStaleMs, stalenessMs }) => maxStaleMs + stalenessMs),
      )
      for (const spans of writing.values()) {
        spans.splice(0, spans.length, ...spans.filter(({ end }) => end > now() - LANDS_WITHIN_MS))
      }
      for (const known of histories.values()) {
        for (const tag of tags) known.get(tag)?.forget(now() - longest - LANDS_WITHIN_MS)
      }
      for (const key of [...blobs.keys()].slice(0, -REMEMBERED_BLOBS)) {
        blobs.delete(key)
        for (const place of ['tokyo', 'lima']) held.delete(`${place} ${key}`)
      }
      // While it is known what happened then.
      for (const key of [...held.keys()]) if (!isHeld(key)) held.delete(key)
    },
  }
}

function isError({ status }: Reply): boolean {
  return status === undefined || status >= 500 || status === 429
}

function outcomeOf({ status, words }: Reply): 'acknowledged' | 'refused' | 'lost' {
  if (status === undefined) return 'lost'
  if (status < 300) return 'acknowledged'
  if (status < 500 || words.includes('was not sent to the primary')) return 'refused'
  return 'lost'
}
