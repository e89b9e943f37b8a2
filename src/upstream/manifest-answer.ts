/** Whether a 200 is the manifest that was asked for (laws 1 and 5): type, size, digest, in that order. */
import { algorithmOf, type Digest, digestOf, parseDigest } from '../oci/digest.ts'
import { HEADERS, type HeaderFields, headerValue } from '../oci/headers.ts'
import { MANIFEST_MAX_BYTES, type Manifest, manifestMediaType } from '../oci/manifest.ts'
import { MEDIA_TYPES } from '../oci/media-types.ts'
import type { Reference } from '../oci/reference.ts'
import { UpstreamError } from './errors.ts'
import { discard } from './failure.ts'
import type { ForwardAnswer } from './upstream.ts'
import { readWhole } from './whole-body.ts'

const SCHEMA_1: readonly unknown[] = [MEDIA_TYPES.dockerSchema1, MEDIA_TYPES.dockerSchema1Signed]

/** Reads the manifest of a 200. Throws `UpstreamError`, `faulty` where it cannot be what was asked. */
export async function readManifest(
  answer: ForwardAnswer,
  reference: Reference,
  deadlineMs: number,
): Promise<Manifest | 'not-kept'> {
  refuseForeignForm(answer)
  if (SCHEMA_1.includes(contentType(answer.headers))) {
    // Its digest is that of the payload without signatures, so its bytes can prove nothing.
    await discard(answer, deadlineMs)
    return 'not-kept'
  }
  const bytes = await readWhole(answer.body, MANIFEST_MAX_BYTES, deadlineMs)
  if (!bytes) throw new UpstreamError('faulty', `a manifest of more than ${MANIFEST_MAX_BYTES} bytes`)

  const named = reference.kind === 'digest' ? reference.digest : namedDigest(answer.headers)
  const digest = digestOf(bytes, named ? algorithmOf(named) : 'sha256')
  if (named && named !== digest) {
    throw new UpstreamError('faulty', `a manifest called ${named} turned out to be ${digest}`)
  }
  const mediaType = manifestMediaType(bytes)
  if (mediaType !== undefined) return { bytes, digest, mediaType }
  // Of a kind nobody knows; but when not even its digest says that it is a manifest, it may be anything.
  if (named) return 'not-kept'
  throw new UpstreamError('faulty', 'a 200 that is no manifest')
}

/** Throws `faulty` for an answer that is compressed, or a web page: no registry sends either to what we ask. */
export function refuseForeignForm({ headers, body }: ForwardAnswer): void {
  const encoding = headerValue(headers, 'content-encoding')
  const isPage = contentType(headers) === 'text/html'
  if (!isPage && (encoding === undefined || encoding.toLowerCase() === 'identity')) return
  const fault = new UpstreamError(
    'faulty',
    isPage ? 'a web page in place of content' : `content in ${encoding}`,
  )
  body.destroy(fault)
  throw fault
}

/**
 * The digest the primary names; undefined when it names none (older registries need not). Throws `faulty` when it is
 * malformed.
 */
export function namedDigest(headers: HeaderFields): Digest | undefined {
  const text = headerValue(headers, HEADERS.contentDigest)
  if (text === undefined) return undefined
  const digest = parseDigest(text)
  if (!digest) throw new UpstreamError('faulty', `a malformed ${HEADERS.contentDigest}`)
  return digest
}

/**
 * Throws `faulty` when the primary names another digest than the one asked for. Another algorithm proves nothing:
 * Distribution answers a question by sha512 with the sha256.
 */
export function refuseOtherDigest(headers: HeaderFields, asked: Digest): void {
  const named = namedDigest(headers)
  if (named && named !== asked && algorithmOf(named) === algorithmOf(asked)) {
    throw new UpstreamError('faulty', `asked for ${asked}, the primary named ${named}`)
  }
}

function contentType(headers: HeaderFields): string | undefined {
  return headerValue(headers, 'content-type')?.split(';')[0]?.trim().toLowerCase()
}
