/**
 * A manifest as bytes and what they say. The bytes are never re-serialised: their digest is their name.
 * https://github.com/opencontainers/image-spec/blob/v1.1.1/manifest.md
 */
import { type Digest, parseDigest } from './digest.ts'
import { isManifestMediaType, MEDIA_TYPES } from './media-types.ts'

/** Both Distribution and GitLab refuse larger ones, and the specification asks registries for at least this much. */
export const MANIFEST_MAX_BYTES: number = 4 * 1024 * 1024

export interface Manifest {
  readonly bytes: Buffer
  readonly digest: Digest
  /** Its `mediaType`, else what its shape says (DESIGN "Where the bytes lie"). */
  readonly mediaType: string
}

/**
 * The media type of manifest bytes, or undefined when they are no manifest that is kept here: not a JSON object, an
 * unknown `mediaType`, or a schema 1 manifest.
 */
export function manifestMediaType(bytes: Uint8Array): string | undefined {
  const fields = manifestFields(bytes)
  if (!fields) return undefined
  const declared = fields['mediaType']
  if (declared !== undefined) {
    return typeof declared === 'string' && isManifestMediaType(declared) ? declared : undefined
  }
  if (fields['schemaVersion'] !== 2) return undefined
  if (Array.isArray(fields['manifests'])) return MEDIA_TYPES.ociIndex
  if ('config' in fields || Array.isArray(fields['layers'])) return MEDIA_TYPES.ociManifest
  return undefined
}

/** The `subject` a manifest refers to, if it has a well-formed one. */
export function manifestSubject(bytes: Uint8Array): Digest | undefined {
  const subject = manifestFields(bytes)?.['subject']
  if (typeof subject !== 'object' || subject === null || !('digest' in subject)) return undefined
  return typeof subject.digest === 'string' ? parseDigest(subject.digest) : undefined
}

/** The fields of a JSON object; undefined when the bytes are none. */
export function manifestFields(bytes: Uint8Array): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : undefined
  } catch {
    return undefined // Not JSON: the caller decides whether that is a fault of the primary or of the client.
  }
}
