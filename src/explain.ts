/** Where a pull by tag would be served from now, and why: the question a person has who got something unexpected. */
import type { Freshness } from './freshness/freshness.ts'
import type { Digest } from './oci/digest.ts'
import type { RepositoryName, Tag } from './oci/reference.ts'
import type { ModeOf } from './oci/repository-mode.ts'
import type { Explanation } from './status/replication-control.ts'
import type { RepositoryIndex } from './store/repository-index.ts'
import { isOutage, UpstreamError } from './upstream/errors.ts'
import type { Upstream } from './upstream/upstream.ts'

export interface ExplainDeps {
  readonly index: Pick<RepositoryIndex, 'tag'>
  readonly freshness: Pick<Freshness, 'confirmed'>
  /** Asked with the site's own credential. */
  readonly upstream: Pick<Upstream, 'getManifest'>
  readonly modeOf: ModeOf
}

export interface ExplainOptions {
  /** `outage.maxstale` in milliseconds. */
  readonly maxStaleMs: number
}

/** What the primary says of the tag now; `failure` where it says nothing that can be used. */
type Word =
  | { readonly kind: 'has'; readonly digest: Digest }
  | { readonly kind: 'not-kept' }
  | { readonly kind: 'absent' }
  | { readonly kind: 'failed'; readonly failure: UpstreamError }

export function createExplain(deps: ExplainDeps, { maxStaleMs }: ExplainOptions) {
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
    const confirmed = freshness.confirmed(name, tag)
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
        why: 'Confirmed by the primary within tags.trust: it is not asked.',
      }
    }
    return { ...facts, ...decide(word, held?.digest, held?.confirmedAtMs) }
  }

  function decide(
    word: Word,
    digestHere: Digest | undefined,
    sinceMs: number | undefined,
  ): Pick<Explanation, 'source' | 'why'> {
    switch (word.kind) {
      case 'absent':
        return { source: 'primary', why: 'Answered 404: the primary is asked, and has no such tag.' }
      case 'not-kept':
        return { source: 'primary', why: 'Passed through: the manifest is of a kind that is not kept here.' }
      case 'has':
        if (word.digest === digestHere) {
          return { source: 'local', why: 'The primary is asked at each pull, and says what is here.' }
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
