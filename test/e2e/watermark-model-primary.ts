/** What the primary's tags are and have been, and the law: how old a tag may be that a site takes for confirmed. */
import { type Digest, digestOf } from '../../src/oci/digest.ts'
import type { RepositoryName, Tag } from '../../src/oci/reference.ts'
import { repository, tagNamed } from '../replicator/inbox-world.ts'

export const APP = repository('team/app')
const SUB = repository('team/app/sub')
export const OTHER = repository('team/other')
/** Where `APP` goes when it is renamed, and comes back from. */
export const MOVED = repository('team/moved')
const MOVED_SUB = repository('team/moved/sub')
export const REPOSITORIES: readonly RepositoryName[] = [APP, OTHER, SUB, MOVED, MOVED_SUB]
/** Nobody pulls from here. */
export const BUSY = repository('team/busy')
export const TAGS: readonly Tag[] = ['a', 'b', 'c', 'd'].map(tagNamed)

export type Change =
  | { readonly kind: 'push'; readonly name: RepositoryName; readonly tag: Tag; readonly digest: Digest }
  | { readonly kind: 'push-untagged'; readonly name: RepositoryName; readonly digest: Digest }
  | { readonly kind: 'delete-tag'; readonly name: RepositoryName; readonly tag: Tag }
  | { readonly kind: 'delete-digest'; readonly name: RepositoryName; readonly digest: Digest }
  | { readonly kind: 'delete-repository'; readonly name: RepositoryName }
  | { readonly kind: 'rename'; readonly name: RepositoryName; readonly to: RepositoryName }

/** One value of one tag; undefined: there is no such tag. */
export interface Version {
  readonly digest: Digest | undefined
  readonly name: RepositoryName
  readonly tag: Tag
  /** Of the versions of its tag. */
  readonly number: number
  readonly writtenAtMs: number
  /** `Infinity` while it is not. */
  acknowledgedAtMs: number
}

/** A tag that was taken for confirmed is older than the bound allows. */
export class StaleError extends Error {
  override readonly name = 'StaleError'
}

/** A pull that a site answered by itself. */
export interface Pull {
  readonly name: RepositoryName
  readonly tag: Tag
  readonly digest: Digest
  readonly boundMs: number
  /** The version that was written through the site itself and acknowledged, before the pull. */
  readonly ownVersion: number
  readonly by: string
}

export interface Primary {
  /** Writes it; what became another version by it. Undefined: it cannot be done. */
  write(change: Change): readonly Version[] | undefined
  acknowledge(versions: readonly Version[]): void
  /** What the tag is, or was so long ago. */
  read(name: RepositoryName, tag: Tag, agoMs?: number): Digest | undefined
  /** A digest that the repository has, or had not long ago. */
  known(name: RepositoryName, which: number): Digest | undefined
  /** Throws `StaleError`. */
  expectFresh(pull: Pull): void
}

export const newDigest = (number: number): Digest => digestOf(Buffer.from(`image ${number}`))

export function createPrimary(now: () => number): Primary {
  const versions = new Map<string, Version[]>()
  const recent = new Map<RepositoryName, Digest[]>()

  function of(name: RepositoryName, tag: Tag): Version[] {
    const key = `${name}:${tag}`
    const known = versions.get(key)
    if (known) return known
    const none: Version = {
      digest: undefined,
      name,
      tag,
      number: 0,
      writtenAtMs: Number.NEGATIVE_INFINITY,
      acknowledgedAtMs: Number.NEGATIVE_INFINITY,
    }
    versions.set(key, [none])
    return [none]
  }

  function set(name: RepositoryName, tag: Tag, digest: Digest | undefined): Version {
    const all = of(name, tag)
    const version = {
      digest,
      name,
      tag,
      number: all.length,
      writtenAtMs: now(),
      acknowledgedAtMs: Number.POSITIVE_INFINITY,
    }
    versions.set(`${name}:${tag}`, [...all, version])
    return version
  }

  const current = (name: RepositoryName, tag: Tag) => of(name, tag).at(-1)?.digest

  function move(from: RepositoryName, to: RepositoryName): Version[] | undefined {
    const under = REPOSITORIES.filter((name) => name === from || name.startsWith(`${from}/`))
    const moves = under.map((name) => [name, repository(to + name.slice(from.length))] as const)
    if (moves.some(([, target]) => TAGS.some((tag) => current(target, tag)))) return undefined
    return moves.flatMap(([name, target]) =>
      TAGS.flatMap((tag) => {
        const digest = current(name, tag)
        return digest ? [set(name, tag, undefined), set(target, tag, digest)] : []
      }),
    )
  }

  return {
    write(change) {
      const { name } = change
      if (change.kind === 'rename') return move(name, change.to)
      if (change.kind === 'push') {
        recent.set(name, [...(recent.get(name) ?? []), change.digest].slice(-4))
        return [set(name, change.tag, change.digest)]
      }
      if (change.kind === 'push-untagged') return []
      return TAGS.filter((tag) => {
        const digest = current(name, tag)
        if (digest === undefined) return false
        if (change.kind === 'delete-tag') return tag === change.tag
        return change.kind === 'delete-repository' || digest === change.digest
      }).map((tag) => set(name, tag, undefined))
    },
    acknowledge(written) {
      for (const version of written) version.acknowledgedAtMs = Math.min(version.acknowledgedAtMs, now())
    },
    read(name, tag, agoMs = 0) {
      return of(name, tag).findLast(({ writtenAtMs }) => writtenAtMs <= now() - agoMs)?.digest
    },
    known(name, which) {
      const all = recent.get(name) ?? []
      return all[which % Math.max(1, all.length)]
    },
    expectFresh({ name, tag, digest, boundMs, ownVersion, by }) {
      const all = of(name, tag)
      const due = all.findLastIndex(({ acknowledgedAtMs }) => acknowledgedAtMs < now() - boundMs)
      const has = all.findLastIndex((version) => version.digest === digest)
      if (has >= Math.max(due, ownVersion)) return
      const told = all[due]?.acknowledgedAtMs
      const why = has >= due ? `${ownVersion} was written through it` : `${due} was acknowledged at ${told}`
      throw new StaleError(
        `at ${now()} ${by} served version ${has} of ${name}:${tag} by the watermark, although ${why}`,
      )
    },
  }
}
