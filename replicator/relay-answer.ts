/** What a relay answered, read strictly: an event that is skipped because it is not understood was never heard of. */
import { z } from 'zod'
import { parseDigest } from '../src/oci/digest.ts'
import { parseRepositoryName, parseTag } from '../src/oci/reference.ts'
import type { LogGone, LogPage } from './relay/page.ts'

/** The answer is none of a relay that this site understands; the message says what was expected. */
export class RelayAnswerError extends Error {
  override readonly name = 'RelayAnswerError'
}

const number = z.int().nonnegative()
const milliseconds = z.number().nonnegative()
const named = z.string().min(1).max(200)

/** Throws `RelayAnswerError`. */
export function readLogPage(text: string): LogPage {
  return read(PAGE, text)
}

/** Throws `RelayAnswerError`. */
export function readLogGone(text: string): LogGone {
  return read(GONE, text)
}

function parsed<T>(parse: (text: string) => T | undefined, what: string) {
  return z.string().transform((text, context) => {
    const value = parse(text)
    if (value !== undefined) return value
    context.addIssue({ code: 'custom', message: `expected ${what}` })
    return z.NEVER
  })
}

const NOTICE = z
  .object({
    // What a database takes, whatever the relay was sent.
    id: z.string().regex(/^[\x20-\x7e]{1,512}$/, 'expected printable ASCII'),
    action: z.enum(['push', 'delete', 'mount', 'rename']),
    repository: parsed(parseRepositoryName, 'a repository name'),
    tag: parsed(parseTag, 'a tag').optional(),
    digest: parsed(parseDigest, 'a digest').optional(),
    renamedTo: parsed(parseRepositoryName, 'a repository name').optional(),
  })
  .transform(({ id, action, repository, tag, digest, renamedTo }) => {
    return { id, action, repository, tag, digest, renamedTo }
  })

const PAGE = z.object({
  log: named,
  records: z.array(z.object({ number, notice: NOTICE })),
  through: number,
  last: number,
  settledThrough: number,
  heldMs: milliseconds,
  watermark: z.object({ epoch: named, round: number, through: number, ageMs: milliseconds }).optional(),
  note: z.string().max(2000).optional(),
})

const GONE = z.object({ log: named, first: number, last: number })

function read<T>(schema: z.ZodType<T>, text: string): T {
  const result = schema.safeParse(json(text))
  if (result.success) return result.data
  const [issue] = result.error.issues
  throw new RelayAnswerError(
    `the relay's answer is not understood (${issue?.path.join('.') || 'answer'}: ${issue?.message}): let relay.url name a relay, and let relay and site be of one version`,
    { cause: result.error },
  )
}

function json(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new RelayAnswerError("the relay's answer is no JSON: relay.url names something else", { cause })
  }
}
