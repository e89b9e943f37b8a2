/**
 * What a manifest lists, sorted by how each is copied. Pure; the bytes come from outside and may hold anything.
 * https://github.com/opencontainers/image-spec/blob/v1.1.1/descriptor.md
 */
import { type Digest, parseDigest } from '../src/oci/digest.ts'
import { type Manifest, manifestFields } from '../src/oci/manifest.ts'
import { isManifestMediaType, MEDIA_TYPES } from '../src/oci/media-types.ts'

export interface Descriptor {
  readonly digest: Digest
  /** As the descriptor says; 0 where that is no size. Only for counting and planning. */
  readonly sizeBytes: number
  /** It stands in the descriptor itself (`data`) or is had elsewhere too (`urls`): the primary may well not hold it. */
  readonly optional: boolean
}

export interface ManifestChildren {
  readonly manifests: readonly Descriptor[]
  readonly blobs: readonly Descriptor[]
  /** What it refers to, which need not exist anywhere. */
  readonly subject: Digest | undefined
}

/** A manifest that cannot be copied, however often it is tried. */
export class ManifestError extends Error {
  override readonly name = 'ManifestError'
}

type Fields = Readonly<Record<string, unknown>>

/**
 * Layers that registries are not meant to hold, whether the descriptor says where they are or not: Docker's foreign and
 * the image specification's non-distributable ones.
 */
const LEFT_OUT =
  /^application\/vnd\.(?:docker\.image\.rootfs\.foreign\.|oci\.image\.layer\.nondistributable\.)/

/** Throws `ManifestError` when a descriptor names no digest that could be verified. */
export function manifestChildren({ bytes, mediaType }: Manifest): ManifestChildren {
  const fields = manifestFields(bytes) ?? {}
  const subject = asFields(fields['subject'])?.['digest']
  const listed = descriptorsOf(fields, mediaType).filter((item) => !LEFT_OUT.test(typeOf(item) ?? ''))
  // An entry without a type is a manifest, as its index is.
  const isManifest = (item: Fields) => isIndex(mediaType) && isManifestMediaType(typeOf(item) ?? mediaType)
  return {
    manifests: listed.filter(isManifest).map(parseDescriptor),
    // An index lists blobs too: buildkit keeps its cache as one over layers and a config of its own.
    blobs: listed.filter((item) => !isManifest(item)).map(parseDescriptor),
    subject: typeof subject === 'string' ? parseDigest(subject) : undefined,
  }
}

function descriptorsOf(fields: Fields, mediaType: string): Fields[] {
  if (isIndex(mediaType)) return listOf(fields['manifests'])
  if (mediaType === MEDIA_TYPES.ociArtifact) return listOf(fields['blobs'])
  return [...listOf([fields['config'] ?? []].flat()), ...listOf(fields['layers'])]
}

/** Absent and null lists are empty ones: Go's tools write either. */
function listOf(value: unknown): Fields[] {
  if (!Array.isArray(value)) return []
  return value.map((item: unknown) => {
    const fields = asFields(item)
    if (!fields) throw new ManifestError('it lists something that is no descriptor')
    return fields
  })
}

function parseDescriptor(fields: Fields): Descriptor {
  const { digest: text, size, urls, data } = fields
  const digest = typeof text === 'string' ? parseDigest(text) : undefined
  if (!digest) throw new ManifestError('it lists a digest that is none, or of an unknown algorithm')
  return {
    digest,
    sizeBytes: typeof size === 'number' && Number.isSafeInteger(size) && size > 0 ? size : 0,
    optional: typeof data === 'string' || (Array.isArray(urls) && urls.length > 0),
  }
}

function typeOf({ mediaType }: Fields): string | undefined {
  return typeof mediaType === 'string' ? mediaType : undefined
}

function isIndex(mediaType: string): boolean {
  return mediaType === MEDIA_TYPES.ociIndex || mediaType === MEDIA_TYPES.dockerList
}

function asFields(value: unknown): Fields | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Fields) : undefined
}
