/** Where a pull by tag would be served from now, and why: the question a person has who got something unexpected. */
import type { Freshness } from './freshness/freshness.ts'
import type { Digest } from './oci/digest.ts'
import type { RepositoryName, Tag } from './oci/reference.ts'
import type { ModeOf } from './oci/repository-mode.ts'
import type { Explanation } from './status/replication-control.ts'
import { formatDuration } from './status/words.ts'
import type { RepositoryIndex } from './store/repository-index.ts'
import { isOutage, UpstreamError } from './upstream/errors.ts'
import type { Upstream } from './upstream/upstream.ts'

export interface ExplainDeps {
  readonly index: Pick<RepositoryIndex, 'tag'>
  readonly freshness: Pick<Freshness, 'confirmed' | 'watermark'>
  /** Asked with the site's own credential. */
  readonly upstream: Pick<Upstream, 'getManifest'>
  readonly modeOf: ModeOf
}

export interface ExplainOptions {
  /** `outage.maxstale` in milliseconds. */
  readonly maxStaleMs: number
  /** `tags.trust` in milliseconds. */
  readonly trustMs: number
  /** `tags.maxstaleness` in milliseconds; undefined: no watermark confirms a tag. */
  readonly maxStalenessMs: number | undefined
}

/** What the primary says of the tag now; `failure` where it says nothing that can be used. */
type Word =
  | { readonly kind: 'has'; readonly digest: Digest }
  | { readonly kind: 'not-kept' }
  | { readonly kind: 'absent' }
  | { readonly kind: 'failed'; readonly failure: UpstreamError }

export function createExplain(deps: ExplainDeps, options: ExplainOptions) {
  const { maxStaleMs, trustMs, maxStalenessMs } = options
  const { index, freshness, upstream, modeOf } = deps

  async function ask(name: RepositoryName, tag: Tag, heldDigest: Digest | undefined): Promise<Word> {
    try {
      const ask = { credential: { kind: 'site' }, heldDigest } as const
      const answer = await upstream.getManifest(name, { kind: 'tag', tag }, ask)
      if (answer === 'not-kept') return { kind: 'not-kept' }
      if (answer !== 'not-modified') return { kind: 'has', digest: answer.digest }
      return heldDigest ? { kind: 'has', digest: heldDigest } : { kind: 'not-kept' }
    } catch (error) {
      if (!(error instanceof UpstreamError)) throw error
      return error.kind === 'absent' ? { kind: 'absent' } : { kind: 'failed', failure: error }
    }
  }

  return async function explain(name: RepositoryName, tag: Tag): Promise<Explanation> {
    const mode = modeOf(name)
    const held = mode === 'passthrough' || mode === 'deny' ? undefined : await index.tag(name, tag)
    const confirmed = await freshness.confirmed(name, tag)
    const watermarkMs = maxStalenessMs === undefined ? undefined : (await freshness.watermark())?.ageMs
    const word = await ask(name, tag, held?.digest)
    const facts = {
      digestHere: held?.digest,
      digestThere: word.kind === 'has' ? word.digest : undefined,
      sinceMs: held?.confirmedAtMs,
      mode,
    }
    if (mode === 'deny') {
      return {
        ...facts,
        source: 'primary',
        why: 'Refused with 403: replication.modes denies it at this site.',
      }
    }
    if (mode === 'passthrough') {
      return { ...facts, source: 'primary', why: 'Read through: replication.modes keeps nothing of it here.' }
    }
    if (confirmed && confirmed === held?.digest) {
      return {
        ...facts,
        source: 'local',
        why: confirmedBecause(watermarkMs),
      }
    }
    return { ...facts, ...decide(word, held?.digest, held?.confirmedAtMs, watermarkMs) }
  }

  /** Which of the two it was cannot be told where both may be. */
  function confirmedBecause(watermarkMs: number | undefined): string {
    if (watermarkMs === undefined) return 'Confirmed by the primary within tags.trust: it is not asked.'
    const covered = `covered by the watermark: what the primary acknowledged until ${formatDuration(watermarkMs)} ago has been heard of here, and none of it was for this repository since the primary was last asked`
    return trustMs === 0
      ? `It is ${covered}: the primary is not asked.`
      : `Confirmed by the primary within tags.trust, or ${covered}: it is not asked.`
  }

  /** Although tags may be confirmed by the watermark. */
  function uncoveredBecause(watermarkMs: number | undefined): string {
    if (maxStalenessMs === undefined) return 'The primary is asked at each pull, and says what is here.'
    const says = 'The primary is asked, and says what is here'
    if (watermarkMs === undefined) return `${says}: there is no watermark now; geo-registry status says why.`
    return watermarkMs > maxStalenessMs
      ? `${says}: the watermark is ${formatDuration(watermarkMs)} old, more than tags.maxstaleness; geo-registry status says why.`
      : `${says}: it was not asked for since the watermark began or the last event of the repository, or that event is less than a minute old.`
  }

  function decide(
    word: Word,
    digestHere: Digest | undefined,
    sinceMs: number | undefined,
    watermarkMs: number | undefined,
  ): Pick<Explanation, 'source' | 'why'> {
    switch (word.kind) {
      case 'absent':
        return { source: 'primary', why: 'Answered 404: the primary is asked, and has no such tag.' }
      case 'not-kept':
        return { source: 'primary', why: 'Passed through: the manifest is of a kind that is not kept here.' }
      case 'has':
        if (word.digest === digestHere) {
          return { source: 'local', why: uncoveredBecause(watermarkMs) }
        }
        return digestHere
          ? { source: 'fill', why: 'The primary says another digest than is here: it is fetched now.' }
          : { source: 'fill', why: 'Not here yet: it is fetched from the primary by the first pull.' }
      case 'failed':
        return inTrouble(word.failure, digestHere, sinceMs)
    }
  }

  function inTrouble(
    failure: UpstreamError,
    digestHere: Digest | undefined,
    sinceMs: number | undefined,
  ): Pick<Explanation, 'source' | 'why'> {
    const said = `The primary gave no usable answer (${failure.message})`
    const { kind } = failure
    if (!isOutage(failure) && kind !== 'limited') {
      return { source: 'primary', why: `${said}: it refuses the credential of this site, a client's may do.` }
    }
    if (digestHere === undefined) return { source: 'primary', why: `${said}, and it is not here: 503.` }
    if (sinceMs === undefined) {
      return { source: 'primary', why: `${said}, and what is here is known not to be the newest: 503.` }
    }
    if (Math.abs(Date.now() - sinceMs) >= maxStaleMs) {
      return { source: 'primary', why: `${said}, and what is here is older than outage.maxstale: 503.` }
    }
    return { source: 'stale', why: `${said}: what is here stands in, marked with a Warning.` }
  }
}
