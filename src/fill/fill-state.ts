/**
 * What the process that fetches a blob tells the others of its site about it, and they to it. It travels as JSON, and
 * what cannot be read is as good as not said.
 */
import { z } from 'zod'
import type { UpstreamErrorKind } from '../upstream/errors.ts'
import { UpstreamError } from '../upstream/errors.ts'
import { WrongContentError } from './retry.ts'
import type { Segment } from './segments.ts'

/** Runs of byte positions: first byte, and one past the last; ascending and disjoint. */
export const SEGMENTS = z.array(z.tuple([z.int().nonnegative(), z.int().positive()])).refine((segments) => {
  const bounds = segments.flat()
  return bounds.every((bound, index) => index === 0 || bound > (bounds[index - 1] ?? 0))
})

export interface FillState {
  /** The data file's name in the folder of spools. */
  readonly file: string
  readonly sizeBytes: number
  /** What has been written to the file. */
  readonly held: readonly Segment[]
  /** What is held or asked for. */
  readonly taken: readonly Segment[]
  /** Where a reader does not get its byte soon. */
  readonly far: readonly Segment[]
  /** The digest is right: the last 64 KiB may be read too. */
  readonly verified: boolean
}

/** `left`: not ended, but whoever fetched it does so no more; another process may go on. */
export type FillEnd =
  | { readonly kind: 'published' }
  | { readonly kind: 'unkept'; readonly message: string }
  | { readonly kind: 'failed'; readonly failure: FillFailure }
  | { readonly kind: 'left' }

/** An `UpstreamError` as others are told of it. */
export interface FillFailure {
  readonly kind: UpstreamErrorKind
  readonly message: string
  /** The content is not what its digest says. */
  readonly wrong: boolean
  readonly status?: number | undefined
  readonly retryAfter?: string | undefined
  readonly timedOut: boolean
  readonly unreachable: boolean
}

/** What the followers in another process want. */
export interface FillWant {
  /** Where they wait for bytes nobody has asked for, and one past the last byte each will want. */
  readonly spans: readonly Segment[]
  /** A client is among them: the fetch goes at no pace of a job. */
  readonly client: boolean
}

const STATE = z.object({
  file: z.string().regex(/^sha(?:256|512)-[0-9a-f]+\.[0-9a-f]{16}\.data$/),
  sizeBytes: z.int().nonnegative(),
  held: SEGMENTS,
  taken: SEGMENTS,
  far: z.array(z.tuple([z.int().nonnegative(), z.int().positive()])),
  verified: z.boolean(),
})

const END = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('published') }),
  z.object({ kind: z.literal('unkept'), message: z.string() }),
  z.object({
    kind: z.literal('failed'),
    failure: z.object({
      kind: z.enum(['unavailable', 'faulty', 'unauthorized', 'denied', 'absent', 'limited', 'aborted']),
      message: z.string(),
      wrong: z.boolean(),
      status: z.int().optional(),
      retryAfter: z.string().optional(),
      timedOut: z.boolean(),
      unreachable: z.boolean(),
    }),
  }),
  z.object({ kind: z.literal('left') }),
])

const NEWS = z.union([z.object({ state: STATE }), z.object({ end: END })])

const WANT = z.object({
  spans: z.array(z.tuple([z.int().nonnegative(), z.int().nonnegative()])).max(64),
  client: z.boolean(),
})

/** What a process that fetches says. */
export type FillNews = { readonly state: FillState } | { readonly end: FillEnd }

export function parseNews(text: string): FillNews | undefined {
  return NEWS.safeParse(parsed(text)).data
}

export function parseWant(text: string): FillWant | undefined {
  return WANT.safeParse(parsed(text)).data
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

export function failureOf(error: UpstreamError): FillFailure {
  const { kind, message, status, retryAfter, timedOut, unreachable } = error
  return {
    kind,
    message,
    wrong: error instanceof WrongContentError,
    ...(status !== undefined && { status }),
    ...(retryAfter !== undefined && { retryAfter }),
    timedOut,
    unreachable,
  }
}

export function errorOf({ kind, message, wrong, ...options }: FillFailure): UpstreamError {
  return wrong ? new WrongContentError(message) : new UpstreamError(kind, message, options)
}
