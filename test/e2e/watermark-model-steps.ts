/**
 * What a run is made of: steps as plain values, so that a failing run can be read, shortened and repeated. Most tags are
 * left alone most of the time, for only what is served from here can be wrong; and most writes meet with trouble.
 */
import fc from 'fast-check'

const TROUBLES = [
  ...(['events-down', 'events-down', 'events-down', 'events-deaf', 'events-slow', 'events-flaky'] as const),
  ...(['canaries-slow', 'crash', 'crash', 'crash', 'vanish', 'join', 'join', 'leave', 'stranger'] as const),
  ...([
    'relay-crash',
    'relay-crash',
    'relay-still',
    'relay-still',
    'relay-fails',
    'relay-disk-slow',
  ] as const),
  ...(['relay-disk-full', 'relay-log-lost', 'names-away', 'site-crash', 'site-forgets'] as const),
  ...(['site-still', 'site-database-away', 'site-wall-clock', 'site-line-cut', 'site-line-slow'] as const),
  ...(['site-line-losing', 'site-line-losing', 'site-line-repeating'] as const),
]
export type Trouble = (typeof TROUBLES)[number]

const COMMON = 'push'
const SELDOM = [
  'delete-tag',
  'delete-tag',
  'delete-digest',
  'push-untagged',
  'delete-repository',
  'rename',
] as const

export interface Write {
  readonly kind: typeof COMMON | (typeof SELDOM)[number]
  /** The site that it is sent through; undefined: it is sent to the instance. */
  readonly via: number | undefined
  /** Of `REPOSITORIES`, and of `TAGS`. */
  readonly name: number
  readonly tag: number
  /** A small one: a digest that the repository has had. */
  readonly digest: number
}

export type Step =
  | { readonly do: 'write'; readonly instance: number; readonly write: Write }
  /** As many events as a queue holds, or nearly, and a write behind them. */
  | { readonly do: 'burst'; readonly instance: number; readonly count: number; readonly write: Write }
  /** What follows does not wait for its end. The writes are made while it lasts, at the instance or site it befalls. */
  | {
      readonly do: 'trouble'
      readonly what: Trouble
      readonly which: number
      readonly forMs: number
      readonly writes: readonly Write[]
    }
  | { readonly do: 'list'; readonly site: number; readonly name: number }
  | { readonly do: 'wait'; readonly ms: number }

const ms = (min: number, max: number) => fc.integer({ min, max })
const which = fc.nat(3)
const write: fc.Arbitrary<Write> = fc.record({
  kind: fc.oneof(
    { weight: 12, arbitrary: fc.constant(COMMON) },
    { weight: 1, arbitrary: fc.constantFrom(...SELDOM) },
  ),
  via: fc.option(fc.nat(1), { freq: 3 }),
  name: fc.constantFrom(0, 0, 0, 1, 2),
  tag: fc.constantFrom(0, 0, 1, 2, 3),
  digest: fc.nat(12),
})
const ordinary: fc.WeightedArbitrary<Step>[] = [
  { weight: 4, arbitrary: fc.record({ do: fc.constant('write'), instance: which, write }) },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant('burst'), instance: which, count: ms(20, 60), write }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('list'),
      site: fc.nat(1),
      name: fc.constantFrom(0, 1),
    }),
  },
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constant('wait'),
      ms: fc.oneof(
        { weight: 4, arbitrary: ms(10, 3_000) },
        { weight: 5, arbitrary: ms(8_000, 16_000) },
        { weight: 2, arbitrary: ms(60_000, 90_000) },
      ),
    }),
  },
]

/** With no other trouble. */
export function stepsWith(troubles: readonly Trouble[]): fc.Arbitrary<readonly Step[]> {
  const trouble: fc.Arbitrary<Step> = fc.record({
    do: fc.constant('trouble'),
    what: fc.constantFrom(...troubles),
    which,
    forMs: fc.oneof(ms(50, 500), ms(50, 2_000), ms(2_000, 20_000)),
    writes: fc.array(write, { maxLength: 3 }),
  })
  const step = fc.oneof(...ordinary, { weight: 8, arbitrary: trouble })
  return fc.array(step, { minLength: 10, maxLength: 50, size: 'max' })
}

/** A few kinds of trouble in each run: what all of them together only mend or hide, few of them show. */
export const steps: fc.Arbitrary<readonly Step[]> = fc
  .subarray([...TROUBLES], { minLength: 1, maxLength: 6 })
  .chain(stepsWith)

/** Where and how a run is played, apart from its steps. */
export interface Setting {
  readonly seed: number
  readonly instances: number
  /** `tags.maxstaleness`. */
  readonly boundMs: number
}

export const setting: fc.Arbitrary<Setting> = fc.record({
  seed: fc.nat(),
  instances: fc.integer({ min: 1, max: 3 }),
  boundMs: fc.constantFrom(2_500, 4_000, 10_000),
})
