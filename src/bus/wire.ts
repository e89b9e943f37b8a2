/**
 * A message as it goes through Redis. Whoever writes there is another version of this program at worst, and a stranger
 * at most: what is not understood is nobody's business here.
 */
import { z } from 'zod'
import { parseDigest } from '../oci/digest.ts'
import { parseRepositoryName } from '../oci/reference.ts'
import type { BusMessage } from './bus.ts'

/** Raised when an older program would misread a message; kinds that it does not know may be added without. */
const VERSION = 1
/** A repository's name has 255 characters at most. */
const LONGEST = 4096

const ENVELOPE = z.object({ v: z.literal(VERSION), from: z.string(), kind: z.string() })
const COUNT = z.number().nonnegative().max(Number.MAX_SAFE_INTEGER)
const HINT = z.object({ name: z.string() })
const BLOB_GONE = z.object({ digest: z.string() })
const TRAFFIC = z.object({ arrivedBytes: COUNT, requests: COUNT, servedBytes: COUNT })

export interface Received {
  /** The process that sent it. */
  readonly from: string
  readonly message: BusMessage
}

export function encode(message: BusMessage, from: string): string {
  return JSON.stringify({ v: VERSION, from, ...message })
}

/** `unknown`: of a kind or version that is not known here; `garbage`: no message at all. */
export function decode(text: string): Received | 'unknown' | 'garbage' {
  const value = text.length > LONGEST ? undefined : parsed(text)
  const envelope = ENVELOPE.safeParse(value)
  if (!envelope.success) return isVersioned(value) ? 'unknown' : 'garbage'
  const { from, kind } = envelope.data
  const message = messageOf(kind, value)
  return typeof message === 'string' ? message : { from, message }
}

function messageOf(kind: string, value: unknown): BusMessage | 'unknown' | 'garbage' {
  switch (kind) {
    case 'hint': {
      const name = parseRepositoryName(HINT.safeParse(value).data?.name ?? '')
      return name ? { kind, name } : 'garbage'
    }
    case 'blob-gone': {
      const digest = parseDigest(BLOB_GONE.safeParse(value).data?.digest ?? '')
      return digest ? { kind, digest } : 'garbage'
    }
    case 'traffic': {
      const { data } = TRAFFIC.safeParse(value)
      return data ? { kind, ...data } : 'garbage'
    }
    default:
      return 'unknown'
  }
}

function isVersioned(value: unknown): boolean {
  return typeof value === 'object' && value !== null && 'v' in value && value.v !== VERSION
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined // Not JSON: garbage, and counted as such.
  }
}
