/**
 * What a client does next, as plain values out of its seed. `pick` chooses among what has been pushed by then: 0 the
 * newest, towards 1 the oldest that is still remembered.
 */

export const REPOSITORIES = ['team/app', 'team/tools/deep', 'other', 'vault'] as const
export type Repository = (typeof REPOSITORIES)[number]
/** Its images are in no other repository. */
export const VAULT: Repository = 'vault'
const OPEN = REPOSITORIES.filter((name) => name !== VAULT)
export const TAGS = ['v1', 'v2', 'latest'] as const
export type Tag = (typeof TAGS)[number]

/** Who asks for what he may not have. `elsewhere`: a digest of the vault, by the path of a repository he may pull. */
export type Intrusion =
  | 'no token'
  | 'expired token'
  | 'forged token'
  | 'other repository’s token'
  | 'pull token pushes'
  | 'pull token deletes'
  | 'elsewhere'

interface At {
  readonly repository: Repository
}
type Method = 'GET' | 'HEAD'

export type Operation = At &
  (
    | { readonly do: 'pull tag'; readonly tag: Tag; readonly method: Method; readonly may: 'pull' | 'push' }
    | { readonly do: 'pull image'; readonly tag: Tag }
    | { readonly do: 'pull digest'; readonly pick: number; readonly method: Method }
    | { readonly do: 'pull blob'; readonly pick: number; readonly blob: number; readonly method: Method }
    | { readonly do: 'leave blob'; readonly pick: number; readonly part: number }
    | { readonly do: 'pull range'; readonly pick: number; readonly from: number; readonly length: number }
    | { readonly do: 'push'; readonly tag: Tag; readonly shape: Shape }
    | { readonly do: 'copy'; readonly tag: Tag; readonly from: Repository; readonly pick: number }
    | { readonly do: 'roll back'; readonly tag: Tag; readonly pick: number }
    | { readonly do: 'delete digest'; readonly pick: number }
    | { readonly do: 'delete tag'; readonly tag: Tag }
    | { readonly do: 'intrude'; readonly how: Intrusion; readonly tag: Tag; readonly pick: number }
  )

/** Sizes of the layers in bytes; an index has an image of that shape for each of two architectures. */
export interface Shape {
  readonly layers: readonly number[]
  readonly isIndex: boolean
}

const INTRUSIONS: readonly Intrusion[] = [
  'no token',
  'expired token',
  'forged token',
  'other repository’s token',
  'pull token pushes',
  'pull token deletes',
  'elsewhere',
  'elsewhere',
]

/** How often out of 100. */
const READER = [
  ['pull tag', 42],
  ['pull image', 16],
  ['pull digest', 14],
  ['pull blob', 8],
  ['leave blob', 4],
  ['pull range', 7],
  ['intrude', 9],
] as const
const WRITER = [
  ['pull tag', 30],
  ['pull image', 10],
  ['push', 22],
  ['copy', 6],
  ['roll back', 20],
  ['delete digest', 8],
  ['delete tag', 4],
] as const

const NAMES = {
  reader: READER.flatMap(([name, weight]) => Array.from({ length: weight }, () => name)),
  writer: WRITER.flatMap(([name, weight]) => Array.from({ length: weight }, () => name)),
}

export interface Turn {
  readonly operation: Operation
  /** Thought before it. */
  readonly pauseMs: number
  /** Which process of a site that has several, as `pick`. */
  readonly door: number
}

/** Without end; `chance` gives numbers from 0 to below 1. */
export function* turns(
  chance: () => number,
  kind: 'reader' | 'writer',
  pauseMs: number,
): Generator<Turn, never> {
  const upTo = (count: number) => Math.floor(chance() * count)
  const oneOf = <T>(list: readonly [T, ...T[]] | readonly T[]): T => {
    const chosen = list[upTo(list.length)]
    if (chosen === undefined) throw new Error('there is nothing to choose from')
    return chosen
  }
  const method = (): Method => (chance() < 0.75 ? 'GET' : 'HEAD')
  /** What was pushed lately is asked for most. */
  const pick = () => chance() * chance()

  function shape(): Shape {
    const dice = chance()
    if (dice < 0.04) return { layers: [1_500_000 + upTo(1_500_000)], isIndex: false }
    if (dice < 0.15) return { layers: [2_000 + upTo(20_000)], isIndex: true }
    return { layers: [1_000 + upTo(5_000), 20_000 + upTo(200_000)], isIndex: false }
  }

  function operation(): Operation {
    const name = oneOf(NAMES[kind])
    const repository = oneOf(REPOSITORIES)
    const tag = oneOf(TAGS)
    const at = { repository, tag }
    switch (name) {
      case 'pull tag':
        return { do: name, ...at, method: method(), may: kind === 'writer' ? 'push' : 'pull' }
      case 'pull image':
      case 'delete tag':
        return { do: name, ...at }
      case 'pull digest':
        return { do: name, repository, pick: pick(), method: method() }
      case 'pull blob':
        return { do: name, repository, pick: pick(), blob: chance(), method: method() }
      case 'leave blob':
        return { do: name, repository, pick: pick(), part: chance() }
      case 'pull range':
        return { do: name, repository, pick: pick(), from: chance(), length: chance() }
      case 'push':
        return { do: name, ...at, shape: shape() }
      case 'copy': {
        const to = oneOf(OPEN)
        const from = oneOf(OPEN.filter((other) => other !== to))
        return { do: name, repository: to, tag, from, pick: pick() }
      }
      case 'roll back':
        return { do: name, ...at, pick: pick() }
      case 'delete digest':
        return { do: name, repository, pick: pick() }
      case 'intrude':
        return { do: name, ...at, how: oneOf(INTRUSIONS), pick: pick() }
    }
  }
  for (;;) yield { operation: operation(), pauseMs: upTo(2 * pauseMs), door: chance() }
}
