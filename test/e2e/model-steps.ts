/** What a run of the model test is made of: steps as plain values, so that a failing run can be read and repeated. */
import fc from 'fast-check'
import type { Via } from './model-history.ts'
import type { Outage } from './model-world.ts'

type Index = 0 | 1
/** `reader`: a token to pull. `writer`: one for everything. */
export type Who = 'reader' | 'writer'
type Method = 'GET' | 'HEAD'

interface Read {
  readonly who: Who
  readonly method: Method
  readonly repository: Index
}

export type Step =
  | {
      readonly do: 'push'
      readonly via: Via
      readonly repository: Index
      readonly tag: Index
      readonly image: number
    }
  /** By the digest that was last pushed under the tag. */
  | { readonly do: 'delete'; readonly via: Via; readonly repository: Index; readonly tag: Index }
  | { readonly do: 'delete tag'; readonly repository: Index; readonly tag: Index }
  | (Read & { readonly do: 'read tag'; readonly tag: Index })
  | (Read & { readonly do: 'read manifest'; readonly image: number })
  | (Read & {
      readonly do: 'read blob'
      readonly image: number
      readonly blob: number
      readonly part: boolean
    })

interface Restart {
  readonly do: 'restart'
  readonly how: 'gracefully' | 'kill'
}

export type Turn =
  | Step
  | Restart
  /** Ends after these. */
  | { readonly do: 'outage'; readonly how: Outage; readonly meanwhile: readonly (Step | Restart)[] }
  | { readonly do: 'together'; readonly steps: readonly Step[]; readonly trouble: Trouble | undefined }

/** Befalls steps while they are under way. */
export interface Trouble {
  readonly how: 'cut' | 'kill'
  readonly afterMs: number
}

export const IMAGES = 2
/** Config, and a layer that is longer than what a fill holds back. */
export const BLOBS = 2

/** Most steps meet on one repository and one tag: where nothing was done before there is little to get wrong. */
const repository = fc.constantFrom<Index[]>(0, 0, 0, 1)
const tag = fc.constantFrom<Index[]>(0, 0, 0, 1)
const image = fc.nat(IMAGES - 1)
const via = fc.constantFrom<Via[]>('site', 'primary')
const read = {
  who: fc.constantFrom<Who[]>('reader', 'reader', 'writer'),
  method: fc.constantFrom<Method[]>('GET', 'GET', 'HEAD'),
  repository,
}

function step<Name extends Step['do'], Fields extends object>(
  weight: number,
  name: Name,
  fields: { [K in keyof Fields]: fc.Arbitrary<Fields[K]> },
) {
  // Plain objects, which a failure prints as they can be written.
  return { weight, arbitrary: fc.record<Fields>(fields).map((given) => ({ do: name, ...given })) }
}

const steps: fc.Arbitrary<Step> = fc.oneof(
  step(6, 'push', { via, repository, tag, image }),
  step(3, 'delete', { via, repository, tag }),
  step(1, 'delete tag', { repository, tag }),
  step(12, 'read tag', { ...read, tag }),
  step(4, 'read manifest', { ...read, image }),
  step(4, 'read blob', { ...read, image, blob: fc.nat(BLOBS - 1), part: fc.boolean() }),
)

const restart: fc.Arbitrary<Restart> = fc.constantFrom<Restart[]>(
  { do: 'restart', how: 'gracefully' },
  { do: 'restart', how: 'kill' },
)
const outage = fc
  .tuple(
    fc.constantFrom<Outage[]>('refuse', 'refuse', 'refuse', 'cut', 'black hole'),
    fc.array(fc.oneof({ weight: 12, arbitrary: steps }, { weight: 1, arbitrary: restart }), {
      minLength: 2,
      maxLength: 5,
    }),
  )
  .map(([how, meanwhile]): Turn => ({ do: 'outage', how, meanwhile }))
const trouble = fc
  .tuple(fc.constantFrom<Trouble['how'][]>('cut', 'cut', 'kill'), fc.nat(40))
  .map(([how, afterMs]): Trouble => ({ how, afterMs }))
const together = fc
  .tuple(
    fc.array(steps, { minLength: 2, maxLength: 4 }),
    fc.oneof({ weight: 3, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary: trouble }),
  )
  .map(([side, befalls]): Turn => ({ do: 'together', steps: side, trouble: befalls }))

const turn: fc.Arbitrary<Turn> = fc.oneof(
  { weight: 30, arbitrary: steps },
  { weight: 6, arbitrary: together },
  { weight: 4, arbitrary: outage },
  { weight: 1, arbitrary: restart },
)

export const turns: fc.Arbitrary<Turn[]> = fc.array(turn, { minLength: 10, maxLength: 40, size: 'max' })

const by = { who: 'reader', method: 'GET', repository: 0 } as const

/** Once through everything, so that a short or slow test run has also been there. */
export const TOUR: Turn[] = [
  { do: 'push', via: 'primary', repository: 0, tag: 0, image: 0 },
  { do: 'read tag', ...by, tag: 0 },
  { do: 'read blob', ...by, image: 0, blob: 1, part: false },
  { do: 'read blob', ...by, repository: 1, image: 0, blob: 1, part: false },
  { do: 'push', via: 'site', repository: 1, tag: 0, image: 1 },
  { do: 'read tag', ...by, repository: 1, tag: 0 },
  { do: 'push', via: 'site', repository: 0, tag: 0, image: 1 },
  { do: 'push', via: 'primary', repository: 0, tag: 0, image: 0 },
  {
    do: 'outage',
    how: 'refuse',
    meanwhile: [
      { do: 'read tag', ...by, tag: 0 },
      { do: 'read tag', ...by, who: 'writer', method: 'HEAD', tag: 0 },
      { do: 'read tag', ...by, tag: 1 },
      { do: 'push', via: 'site', repository: 0, tag: 0, image: 1 },
      { do: 'restart', how: 'kill' },
      { do: 'read tag', ...by, tag: 0 },
    ],
  },
  { do: 'read tag', ...by, tag: 0 },
  { do: 'delete', via: 'site', repository: 0, tag: 0 },
  { do: 'read tag', ...by, tag: 0 },
  {
    do: 'outage',
    how: 'black hole',
    meanwhile: [
      { do: 'read tag', ...by, tag: 0 },
      { do: 'read tag', ...by, repository: 1, tag: 0 },
    ],
  },
  { do: 'restart', how: 'gracefully' },
  { do: 'read tag', ...by, repository: 1, tag: 0 },
]
