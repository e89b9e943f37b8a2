/**
 * The image that canaries ask for: a real one with an empty layer, so that everything else that meets it in the registry
 * (Geo, scanners, garbage collection) finds nothing odd. It is always the same, and tagged, so that it stays.
 */
import { createDigester, type Digest } from '../../src/oci/digest.ts'
import { MEDIA_TYPES } from '../../src/oci/media-types.ts'
import type { InstanceConnection } from './instance-connection.ts'

export const CANARY_TAG = 'canary'

export interface CanaryImage {
  readonly mediaType: string
  readonly manifest: Buffer
  readonly digest: Digest
  readonly blobs: readonly { readonly digest: Digest; readonly bytes: Buffer }[]
}

/** The registry did not take the canary image; the message says what it answered and what to do. */
export class CanaryPushError extends Error {
  override readonly name = 'CanaryPushError'
}

/** What ends a tar archive, and is all of an empty one. */
const EMPTY_TAR_BYTES = 1024
const PUSH_TIMEOUT_MS = 10_000

export function createCanaryImage(): CanaryImage {
  const layer = blobOf(Buffer.alloc(EMPTY_TAR_BYTES))
  const config = blobOf(
    Buffer.from(
      JSON.stringify({
        os: 'linux',
        architecture: 'amd64',
        config: {},
        rootfs: { type: 'layers', diff_ids: [layer.digest] },
      }),
    ),
  )
  const mediaType = MEDIA_TYPES.ociManifest
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType,
      config: descriptorOf('application/vnd.oci.image.config.v1+json', config),
      layers: [descriptorOf('application/vnd.oci.image.layer.v1.tar', layer)],
    }),
  )
  return { mediaType, manifest, digest: blobOf(manifest).digest, blobs: [config, layer] }
}

/** Puts it where canaries find it. `authorization` must grant pull and push. Throws `CanaryPushError`. */
export async function pushCanaryImage(
  connection: InstanceConnection,
  repository: string,
  authorization: string | undefined,
): Promise<void> {
  const image = createCanaryImage()
  const refused = (what: string, said: string) =>
    new CanaryPushError(
      `the canary image could not be pushed to ${repository} (${what}: ${said}); create what is ` +
        'missing there and let the credential of upstream.auth push to it, or set relay.canary.repository to where it may',
    )
  const send = async (
    what: string,
    method: 'POST' | 'PUT',
    path: string,
    body?: Buffer,
    mediaType?: string,
  ) => {
    const answer = await connection
      .send({
        method,
        path,
        headers: { authorization, 'content-type': mediaType ?? 'application/octet-stream' },
        body,
        timeoutMs: PUSH_TIMEOUT_MS,
      })
      .catch((cause: unknown) => {
        throw refused(what, cause instanceof Error ? cause.message : String(cause))
      })
    if (answer.status !== (method === 'POST' ? 202 : 201)) {
      throw refused(what, `answered ${answer.status} ${answer.text}`.trim())
    }
    return answer
  }
  for (const { digest, bytes } of image.blobs) {
    const begun = await send('upload', 'POST', `/v2/${repository}/blobs/uploads/`)
    const location = URL.parse(begun.headers.location ?? '', 'http://instance')
    if (begun.headers.location === undefined || !location) throw refused('upload', 'it named no Location')
    // Whatever origin it names: the upload goes on at the same process.
    const joint = location.search === '' ? '?' : '&'
    await send('blob', 'PUT', `${location.pathname}${location.search}${joint}digest=${digest}`, bytes)
  }
  const path = `/v2/${repository}/manifests/${CANARY_TAG}`
  await send('manifest', 'PUT', path, image.manifest, image.mediaType)
}

function blobOf(bytes: Buffer): { readonly digest: Digest; readonly bytes: Buffer } {
  const digester = createDigester('sha256')
  digester.update(bytes)
  return { digest: digester.digest(), bytes }
}

function descriptorOf(mediaType: string, { digest, bytes }: { digest: Digest; bytes: Buffer }) {
  return { mediaType, digest, size: bytes.length }
}
