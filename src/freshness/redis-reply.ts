/** What the scripts of freshness answer, read. */
import { type Digest, parseDigest } from '../oci/digest.ts'
import type { Announced } from './freshness.ts'

/** An answer that is a list; what is missing in it is empty. */
export function textsOf(reply: unknown): string[] {
  return Array.isArray(reply) ? reply.map((each: unknown) => (each == null ? '' : String(each))) : []
}

/** The same, by twos. */
export function pairsOf(reply: unknown): Map<string, string> {
  const texts = textsOf(reply)
  return new Map(texts.flatMap((text, index) => (index % 2 === 0 ? [[text, texts[index + 1] ?? '']] : [])))
}

/** Empty: nothing. */
export function announcedOf(text: string | undefined): Announced | undefined {
  if (!text) return undefined
  return text === 'gone' ? text : (parseDigest(text) ?? 'disputed')
}

export function digestOf(text: string | undefined): Digest | undefined {
  return parseDigest(text ?? '')
}
