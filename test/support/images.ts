/**
 * Images, indexes and artifacts as registries hold them: a tree of manifests over blobs, made in memory from sizes and
 * a seed. https://github.com/opencontainers/image-spec/blob/v1.1.1/manifest.md
 */
import type { Digest } from '../../src/oci/digest.ts'
import { MEDIA_TYPES } from '../../src/oci/media-types.ts'
import { bytesContent, type Content, jsonContent } from './content.ts'
import { tarLayer } from './tar-layer.ts'

export interface Image {
  readonly manifest: Content
  readonly digest: Digest
  readonly mediaType: string
  /** The manifest's bytes. */
  readonly bytes: Buffer
  /** Config and layers; empty for an index. */
  readonly blobs: readonly Content[]
  /** The manifests of an index, in order. */
  readonly children: readonly Image[]
  /** As an index lists it. */
  readonly platform?: Platform | undefined
}

export interface Platform {
  readonly os: string
  readonly architecture: string
  readonly variant?: string
}

export interface Descriptor {
  readonly mediaType: string
  readonly digest: Digest
  readonly size: number
}

export type Format = 'oci' | 'docker'

const TYPES = {
  oci: {
    manifest: MEDIA_TYPES.ociManifest,
    index: MEDIA_TYPES.ociIndex,
    config: 'application/vnd.oci.image.config.v1+json',
    layer: 'application/vnd.oci.image.layer.v1.tar',
    gzipLayer: 'application/vnd.oci.image.layer.v1.tar+gzip',
  },
  docker: {
    manifest: MEDIA_TYPES.dockerManifest,
    index: MEDIA_TYPES.dockerList,
    config: 'application/vnd.docker.container.image.v1+json',
    layer: 'application/vnd.docker.image.rootfs.diff.tar',
    gzipLayer: 'application/vnd.docker.image.rootfs.diff.tar.gzip',
  },
} as const

export interface ImageOptions {
  /** Sizes of the layers' files in bytes; default two of 10 000 and 50 000. */
  readonly layers?: readonly number[]
  /** Images of different seeds share no blob; layers of one image differ. Default 0. */
  readonly seed?: string | number
  /** Default `oci`. */
  readonly format?: Format
  /** Default true, as clients push them. */
  readonly gzip?: boolean
  /** Default linux/amd64. */
  readonly platform?: Platform
  readonly annotations?: Readonly<Record<string, string>>
  readonly subject?: Image
  /** False leaves the manifest's `mediaType` out, as old OCI tools do. Default true. */
  readonly declareMediaType?: boolean
}

/** An image that every client can pull and unpack. */
export async function buildImage(options: ImageOptions = {}): Promise<Image> {
  const { layers = [10_000, 50_000], seed = 0, format = 'oci', gzip = true } = options
  const platform = options.platform ?? { os: 'linux', architecture: 'amd64' }
  const types = TYPES[format]
  const tars = await Promise.all(
    layers.map((sizeBytes, index) =>
      tarLayer({
        sizeBytes,
        seed: `${seed}.${index}`,
        gzip,
        mediaType: gzip ? types.gzipLayer : types.layer,
      }),
    ),
  )
  const config = jsonContent(
    {
      ...platform,
      config: { Labels: { seed: String(seed) } },
      rootfs: { type: 'layers', diff_ids: tars.map(({ diffId }) => diffId) },
    },
    types.config,
  )
  const blobs = [config, ...tars]
  return {
    ...manifestOf(types.manifest, options, {
      config: descriptorOf(config),
      layers: tars.map(descriptorOf),
    }),
    blobs,
    children: [],
    platform,
  }
}

export interface IndexOptions {
  readonly format?: Format
  readonly annotations?: Readonly<Record<string, string>>
  readonly subject?: Image
  /** False leaves the index's `mediaType` out. Default true. */
  readonly declareMediaType?: boolean
}

/** An index (OCI) or manifest list (Docker) over images, artifacts or further indexes. */
export function buildIndex(children: readonly Image[], options: IndexOptions = {}): Image {
  const manifests = children.map((child) => ({
    ...descriptorOf(child.manifest),
    ...(child.platform && { platform: child.platform }),
  }))
  return {
    ...manifestOf(TYPES[options.format ?? 'oci'].index, options, { manifests }),
    blobs: [],
    children,
  }
}

/** The same image for several architectures, under one index. */
export async function buildMultiArch(
  options: Omit<ImageOptions, 'platform'> & { readonly architectures?: readonly string[] } = {},
): Promise<Image> {
  const { architectures = ['amd64', 'arm64'], format = 'oci', seed = 0 } = options
  const images = architectures.map((architecture) =>
    buildImage({ ...options, seed: `${seed}-${architecture}`, platform: { os: 'linux', architecture } }),
  )
  return buildIndex(await Promise.all(images), { format })
}

export interface ArtifactOptions {
  /** Default `application/vnd.example.sbom`. */
  readonly artifactType?: string
  readonly subject?: Image
  readonly payload?: string
  readonly annotations?: Readonly<Record<string, string>>
}

/** An artifact: an OCI manifest with an empty config, such as a signature or an SBOM of its subject. */
export function buildArtifact(options: ArtifactOptions = {}): Image {
  const { artifactType = 'application/vnd.example.sbom', payload = 'nothing inside' } = options
  // https://github.com/opencontainers/image-spec/blob/v1.1.1/manifest.md#guidance-for-an-empty-descriptor
  const config = jsonContent({}, 'application/vnd.oci.empty.v1+json')
  const layer = bytesContent(Buffer.from(payload), artifactType)
  return {
    ...manifestOf(TYPES.oci.manifest, options, {
      artifactType,
      config: descriptorOf(config),
      layers: [descriptorOf(layer)],
    }),
    blobs: [config, layer],
    children: [],
  }
}

/** The tag under which cosign keeps an image's signature, and registries without referrers API keep referrers. */
export function cosignTag(image: Image, suffix: string = '.sig'): string {
  return `${image.digest.replace(':', '-')}${suffix}`
}

export function descriptorOf({ mediaType, digest, sizeBytes }: Content): Descriptor {
  return { mediaType, digest, size: sizeBytes }
}

/** Every blob under an image, children included, each digest once. */
export function allBlobs(image: Image): Content[] {
  const blobs = [...image.blobs, ...image.children.flatMap(allBlobs)]
  return [...new Map(blobs.map((blob) => [blob.digest, blob])).values()]
}

/** Every manifest of an image, children before parents. */
export function allManifests(image: Image): Image[] {
  return [...image.children.flatMap(allManifests), image]
}

function manifestOf(
  mediaType: string,
  options: IndexOptions,
  fields: Readonly<Record<string, unknown>>,
): Pick<Image, 'manifest' | 'digest' | 'mediaType' | 'bytes'> {
  const { annotations, subject, declareMediaType = true } = options
  const bytes = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      ...(declareMediaType ? { mediaType } : {}),
      ...fields,
      ...(subject && { subject: descriptorOf(subject.manifest) }),
      ...(annotations && { annotations }),
    }),
  )
  const manifest = bytesContent(bytes, mediaType)
  return { manifest, digest: manifest.digest, mediaType, bytes }
}
