/** What is measured, in the order of the table, and how its figures are written. */
import { grouped, mebibytes, megabytesPerSecond, milliseconds, perSecond } from '../report.ts'
import { TRUST_SECONDS } from './contender.ts'
import type { Measures } from './course.ts'

/** One measurement. */
export interface Figure {
  /** In the row's unit: per second, bytes per second, milliseconds, bytes, a count. */
  readonly value: number
  /** What the answer was, where that is the point: `200`, `no answer`. */
  readonly said?: string
}

export interface RowKind {
  readonly title: (measures: Measures) => string
  readonly better: 'more' | 'less'
  readonly write: (value: number) => string
  /** Shown as bars; what is answered in an outage is not a length. */
  readonly charted: boolean
}

const rate = { better: 'more', write: perSecond, charted: true } as const
const speed = { better: 'more', write: megabytesPerSecond, charted: true } as const
const wait = { better: 'less', write: milliseconds, charted: true } as const
const outage = { better: 'less', write: milliseconds, charted: false } as const

const big = ({ bigBytes }: Measures) => `${grouped(bigBytes / 1e6)} MB`
const manifests = ({ manifestConnections }: Measures) => `${manifestConnections} connections`
const crowd = (measures: Measures) =>
  `${measures.clients} clients at once on one cold blob of ${big(measures)}`

export const ROWS = {
  manifestAsked: {
    ...rate,
    title: (m) => `warm manifest by tag, the primary asked at each pull, ${manifests(m)}`,
  },
  manifestTrusted: {
    ...rate,
    title: (m) => `warm manifest by tag, believed for ${TRUST_SECONDS} s, ${manifests(m)}`,
  },
  manifestByDigest: { ...rate, title: (m) => `warm manifest by digest, ${manifests(m)}` },
  warmSmall: { ...speed, title: () => 'warm blob of 1 MiB, 8 connections' },
  warmBig: { ...speed, title: (m) => `warm blob of ${big(m)}, 4 connections` },
  coldRate: { ...rate, title: (m) => `cold blobs of 64 KiB, ${m.coldConnections} connections` },
  coldFirstByte: { ...wait, title: () => 'cold blob of 1 MiB, first byte' },
  coldBigFirstByte: { ...wait, title: (m) => `cold blob of ${big(m)}, first byte` },
  coldBigWhole: { ...wait, title: (m) => `cold blob of ${big(m)}, whole` },
  crowdFirstByte: { ...wait, title: (m) => `${crowd(m)}: first byte, median client` },
  crowdWhole: { ...wait, title: (m) => `${crowd(m)}: whole, last client` },
  crowdRequests: {
    better: 'less',
    write: grouped,
    charted: true,
    title: (m) => `${crowd(m)}: requests to the primary`,
  },
  crowdBytes: {
    better: 'less',
    write: mebibytes,
    charted: true,
    title: (m) => `${crowd(m)}: bytes from the primary`,
  },
  crowdMemory: { better: 'less', write: mebibytes, charted: true, title: (m) => `${crowd(m)}: peak memory` },
  outageTagFirst: { ...outage, title: () => 'primary accepts and never answers: held tag, first pull' },
  outageTagNext: { ...outage, title: () => 'primary accepts and never answers: held tag, second pull' },
  outageHeldDigest: { ...outage, title: () => 'primary accepts and never answers: held manifest by digest' },
  outageNewDigest: { ...outage, title: () => 'primary accepts and never answers: blob that is not here' },
} as const satisfies Record<string, RowKind>

export type RowId = keyof typeof ROWS
export const ROW_IDS = Object.keys(ROWS) as RowId[]
export type Figures = Readonly<Partial<Record<RowId, Figure>>>
