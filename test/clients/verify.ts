/** What was pulled, and what lies at the registries after a push, held against what was pushed: by digests. */

import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { isDeepStrictEqual } from 'node:util'
import { allBlobs, allManifests, type Image } from '../support/images.ts'
import type { RegistryApi } from '../support/registry-api.ts'
import type { Held, Tool } from './tool.ts'

/** Throws unless the client holds this image, byte for byte: whole, or its own platform of a multi-arch image. */
export async function expectHeld(held: Held, image: Image, indexes: Tool['indexes']): Promise<void> {
  const own = image.children[0] ?? image
  const roots: readonly string[] = [image.digest, own.digest]
  if (held.digest !== undefined && !roots.includes(held.digest)) {
    throw new Error(`holds the manifest ${held.digest}, pushed was ${image.digest}`)
  }
  if (held.unpacked.length > 0) return await expectUnpacked(held, own)
  const all = digestsOf(image)
  const strange = held.files.filter((digest) => !all.includes(digest))
  if (strange.length > 0) throw new Error(`holds ${strange.join(', ')}, which was never pushed`)
  // helm keeps the chart alone, and tells nothing of its manifest.
  const needed = held.digest === undefined ? layersOf(image) : digestsOf(indexes === 'whole' ? image : own)
  const missing = needed.filter((digest) => !held.files.includes(digest))
  if (missing.length > 0) throw new Error(`lacks ${missing.join(', ')}`)
}

async function expectUnpacked({ unpacked }: Held, image: Image): Promise<void> {
  const wanted = await diffIdsOf(image)
  if (!isDeepStrictEqual(unpacked, wanted)) {
    throw new Error(`unpacked ${unpacked.join(', ')}, pushed was ${wanted.join(', ')}`)
  }
}

/**
 * Throws unless both registries answer with the same manifest, of this digest where it is known, and every blob and
 * manifest under it has its digest's bytes at both.
 */
export async function expectPushed(
  apis: readonly RegistryApi[],
  repository: string,
  reference: string,
  wanted?: string,
): Promise<void> {
  const found: string[] = []
  for (const api of apis) {
    const answer = await api.getManifest(repository, reference)
    if (answer.status !== 200) throw new Error(`${repository}:${reference} is answered ${answer.status}`)
    found.push(answer.digest)
    const manifest: Manifest = JSON.parse(answer.body.toString())
    for (const { digest } of manifest.manifests ?? []) await expectPushed([api], repository, digest, digest)
    for (const { digest } of [manifest.config, ...(manifest.layers ?? [])].flatMap((blob) => blob ?? [])) {
      const blob = await api.getBlob(repository, digest)
      if (blob.digest !== digest) throw new Error(`the blob ${digest} is answered ${blob.status}`)
    }
  }
  const expected = wanted ?? found[0]
  if (found.some((digest) => digest !== expected)) {
    throw new Error(`pushed was ${expected}, there is ${found.join(' and ')}`)
  }
}

interface Manifest {
  readonly config?: { readonly digest: string }
  readonly layers?: readonly { readonly digest: string }[]
  readonly manifests?: readonly { readonly digest: string }[]
}

function digestsOf(image: Image): string[] {
  return [...allManifests(image), ...allBlobs(image)].map(({ digest }) => digest)
}

function layersOf({ blobs: [, ...layers] }: Image): string[] {
  return layers.map(({ digest }) => digest)
}

async function diffIdsOf({ blobs: [config] }: Image): Promise<readonly string[]> {
  if (!config) throw new Error('an image has a config')
  const parsed: { rootfs: { diff_ids: string[] } } = JSON.parse(
    (await buffer(Readable.from(config.read()))).toString(),
  )
  return parsed.rootfs.diff_ids
}
