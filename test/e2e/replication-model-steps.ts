/** What a story of the replication model is made of: plain values, so that a failing one can be read and repeated. */
import fc from 'fast-check'
import type { Via } from './model-history.ts'
import type { Delivery } from './replication-model-events.ts'

/** `<base>`, and a repository below it. */
export type Repository = 0 | 1 | 2 | 3
export type Base = 0 | 1

export type Write =
  | {
      readonly do: 'push'
      readonly via: Via
      readonly repository: Repository
      /** Undefined: by its digest alone. */
      readonly tag: number | undefined
      readonly image: number
    }
  /** By digest: every tag that names it goes too. */
  | { readonly do: 'delete'; readonly via: Via; readonly repository: Repository; readonly image: number }

export type Step =
  | Write
  /** The base with all below it becomes the other one, where that is free. */
  | { readonly do: 'rename'; readonly from: Base }
  | { readonly do: 'events'; readonly how: Delivery | 'release' }
  | { readonly do: 'link'; readonly how: 'refuse' | 'black hole' | 'cut' | 'mend' }
  | { readonly do: 'site'; readonly how: 'restart' | 'kill and start' | 'stop' | 'kill' | 'start' }
  | { readonly do: 'jobs'; readonly how: 'pause' | 'resume' }
  /** Jobs get so long to get somewhere before the next step meets them there. */
  | { readonly do: 'let be'; readonly forMs: number }
  | {
      readonly do: 'trouble'
      readonly during: Write
      readonly how: 'cut' | 'kill'
      readonly afterMs: number
    }
  /** More tags than the brake lets go unexplained. */
  | { readonly do: 'push many'; readonly repository: Repository; readonly image: number }
  /** Every fault is mended, and the site has to become equal. */
  | { readonly do: 'settle' }

export const TAGS = 3
/** An image, one over the same layers, an index, a referrer of the first, a larger one. */
export const IMAGES = 5
export const MANY_TAGS = 110

/** Most steps meet on one repository and one tag: where nothing was done before there is little to get wrong. */
const repository = fc.constantFrom<Repository[]>(0, 0, 0, 1, 2, 3)
const image = fc.nat(IMAGES - 1)
const via = fc.constantFrom<Via[]>('primary', 'primary', 'site')
const tag = fc.constantFrom(0, 0, 0, 1, 2, undefined)

const write: fc.Arbitrary<Write> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ do: fc.constant('push' as const), via, repository, tag, image }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('delete' as const), via, repository, image }) },
)

function fault<Name extends string, How extends string>(name: Name, ...hows: How[]) {
  return fc.constantFrom(...hows).map((how) => ({ do: name, how }))
}

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 20, arbitrary: write },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant('rename' as const), from: fc.constantFrom<Base[]>(0, 1) }),
  },
  {
    weight: 6,
    arbitrary: fault('events', ...(['pass', 'pass', 'lose', 'repeat', 'hold', 'hold', 'release'] as const)),
  },
  { weight: 4, arbitrary: fault('link', ...(['refuse', 'black hole', 'cut', 'mend', 'mend'] as const)) },
  {
    weight: 3,
    arbitrary: fault('site', ...(['restart', 'kill and start', 'kill', 'stop', 'start', 'start'] as const)),
  },
  { weight: 2, arbitrary: fault('jobs', ...(['pause', 'resume', 'resume'] as const)) },
  { weight: 6, arbitrary: fc.record({ do: fc.constant('let be' as const), forMs: fc.nat(400) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('trouble' as const),
      during: write,
      how: fc.constantFrom(...(['cut', 'kill'] as const)),
      afterMs: fc.nat(40),
    }),
  },
)

export const stories: fc.Arbitrary<Step[]> = fc.array(step, { minLength: 10, maxLength: 50, size: 'max' })

const there = { via: 'primary', repository: 0 } as const

/** Once through everything, so that a short or slow test run has also been there. */
export const TOUR: Step[] = [
  { do: 'push', ...there, tag: 0, image: 0 },
  { do: 'push', ...there, tag: 1, image: 2 },
  { do: 'push', ...there, tag: undefined, image: 3 },
  { do: 'push', via: 'site', repository: 1, tag: 0, image: 1 },
  { do: 'push many', repository: 2, image: 4 },
  { do: 'settle' },
  { do: 'events', how: 'lose' },
  { do: 'delete', via: 'primary', repository: 2, image: 4 },
  { do: 'push', ...there, tag: 0, image: 1 },
  { do: 'events', how: 'hold' },
  { do: 'push', ...there, tag: 0, image: 0 },
  { do: 'delete', ...there, image: 2 },
  { do: 'link', how: 'refuse' },
  { do: 'push', ...there, tag: 2, image: 4 },
  { do: 'events', how: 'release' },
  { do: 'events', how: 'repeat' },
  { do: 'push', via: 'site', repository: 0, tag: 2, image: 3 },
  { do: 'site', how: 'kill and start' },
  { do: 'jobs', how: 'pause' },
  { do: 'delete', via: 'primary', repository: 1, image: 1 },
]
