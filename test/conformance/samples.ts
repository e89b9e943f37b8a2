/**
 * One sample of every kind of content that the specifications know, with bytes of its own, so that no sample finds
 * another's blobs. https://github.com/opencontainers/image-spec/blob/v1.1.1/manifest.md
 */
import { type Digest, type DigestAlgorithm, digestOf } from '../../src/oci/digest.ts'
import { MEDIA_TYPES } from '../../src/oci/media-types.ts'

export interface SampleBlob {
  readonly digest: Digest
  readonly bytes: Buffer
}

export interface SampleManifest extends SampleBlob {
  readonly mediaType: string
  readonly artifactType?: string | undefined
  readonly annotations?: Readonly<Record<string, string>> | undefined
  readonly subject?: Digest | undefined
  /** Undefined: pushed by digest. */
  readonly tag?: string | undefined
}

export interface Sample {
  readonly name: string
  readonly blobs: readonly SampleBlob[]
  /** In the order they are pushed. */
  readonly manifests: readonly SampleManifest[]
}

interface Descriptor {
  readonly mediaType: string
  readonly digest: Digest
  readonly size: number
}

type Fields = Readonly<Record<string, unknown>>

const CONFIG = 'application/vnd.oci.image.config.v1+json'
const TAR = 'application/vnd.oci.image.layer.v1.tar'
const GZIP = `${TAR}+gzip`
const NONDISTRIBUTABLE = 'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip'
const EMPTY = 'application/vnd.oci.empty.v1+json'
const SBOM = 'application/vnd.example.sbom'
const SIGNATURE = 'application/vnd.example.signature'

export function allSamples(): Sample[] {
  return [
    imageSample('image'),
    imageSample('image-uncompressed', { layerType: TAR }),
    imageSample('large-manifest', { fields: { annotations: bulkyAnnotations() } }),
    imageSample('no-layers', { layers: 0 }),
    imageSample('data-field', { embedded: true }),
    imageSample('non-distributable-layers', { layerType: NONDISTRIBUTABLE }),
    imageSample('custom-fields', { fields: { 'org.example.custom': { nested: [1, 'two'] }, another: true } }),
    sha512Sample(),
    indexSample('index', ['one', 'two']),
    nestedIndexSample(),
    { name: 'empty-index', blobs: [], manifests: [index([], { tag: 'empty-index' })] },
    sparseSample(),
    artifactSample(),
    artifactIndexSample(),
    artifactWithoutLayersSample(),
    artifactsWithSubjectSample(),
    indexWithSubjectSample(),
    missingSubjectSample(),
  ]
}

export function blobOf(
  seed: string,
  sizeBytes: number = 900,
  algorithm: DigestAlgorithm = 'sha256',
): SampleBlob {
  const bytes = Buffer.from(`${seed}|`.repeat(Math.ceil(sizeBytes / (seed.length + 1)))).subarray(
    0,
    sizeBytes,
  )
  return { bytes, digest: digestOf(bytes, algorithm) }
}

interface ImageOptions {
  readonly layers?: number
  readonly layerType?: string
  readonly fields?: Fields
  readonly algorithm?: DigestAlgorithm
  /** Descriptors carry their content in `data`. */
  readonly embedded?: boolean
  readonly subject?: Descriptor
  readonly tag?: string
}

/** Pushed by its digest: a push by tag leaves the algorithm to the registry. */
function sha512Sample(): Sample {
  const { blobs, manifest } = image('sha512', { algorithm: 'sha512' })
  return { name: 'sha512', blobs, manifests: [manifest] }
}

interface BuiltImage {
  readonly blobs: readonly SampleBlob[]
  readonly manifest: SampleManifest
}

function imageSample(name: string, options: ImageOptions = {}): Sample {
  const { blobs, manifest } = image(name, { tag: name, ...options })
  return { name, blobs, manifests: [manifest] }
}

function image(seed: string, options: ImageOptions): BuiltImage {
  const { layers = 2, layerType = GZIP, algorithm = 'sha256', embedded = false } = options
  const config = jsonBlob({ architecture: 'amd64', os: 'linux', author: seed, rootfs: {} }, algorithm)
  const layerBlobs = Array.from({ length: layers }, (_, at) => blobOf(`${seed} layer ${at}`, 1200, algorithm))
  const describe = (blob: SampleBlob, mediaType: string) => ({
    ...descriptor(blob, mediaType),
    ...(embedded && { data: blob.bytes.toString('base64') }),
  })
  const fields = {
    config: describe(config, CONFIG),
    layers: layerBlobs.map((blob) => describe(blob, layerType)),
    ...options.fields,
  }
  return {
    blobs: [config, ...layerBlobs],
    manifest: manifest(MEDIA_TYPES.ociManifest, fields, { algorithm, ...options }),
  }
}

function indexSample(name: string, children: readonly string[]): Sample {
  const images = children.map((child) => image(`${name} ${child}`, {}))
  const root = index(
    images.map(({ manifest }) => manifest),
    { tag: name },
  )
  return { name, blobs: images.flatMap(({ blobs }) => blobs), manifests: [...manifestsOf(images), root] }
}

function nestedIndexSample(): Sample {
  const images = ['a', 'b', 'c'].map((child) => image(`nested ${child}`, {}))
  const [first, ...others] = manifestsOf(images)
  const inner = index(others, {})
  const root = index([...(first ? [first] : []), inner], { tag: 'nested-index' })
  return {
    name: 'nested-index',
    blobs: images.flatMap(({ blobs }) => blobs),
    manifests: [...manifestsOf(images), inner, root],
  }
}

/** An index of three images of which one was never pushed. */
function sparseSample(): Sample {
  const images = ['a', 'b', 'absent'].map((child) => image(`sparse ${child}`, {}))
  const pushed = images.slice(0, 2)
  const root = index(manifestsOf(images), { tag: 'sparse' })
  return {
    name: 'sparse',
    blobs: pushed.flatMap(({ blobs }) => blobs),
    manifests: [...manifestsOf(pushed), root],
  }
}

function artifactSample(): Sample {
  const { blobs, manifest } = artifact('artifact', SBOM, { tag: 'artifact' })
  return { name: 'artifact', blobs, manifests: [manifest] }
}

function artifactWithoutLayersSample(): Sample {
  const empty = jsonBlob({})
  // The specification wants one layer at least: the empty one.
  const fields = { artifactType: SBOM, config: descriptor(empty, EMPTY), layers: [descriptor(empty, EMPTY)] }
  return {
    name: 'artifact-without-layers',
    blobs: [empty],
    manifests: [
      manifest(MEDIA_TYPES.ociManifest, fields, {
        tag: 'artifact-without-layers',
        fields: { artifactType: SBOM },
      }),
    ],
  }
}

function artifactIndexSample(): Sample {
  const parts = [artifact('artifact index a', SBOM, {}), artifact('artifact index b', SIGNATURE, {})]
  const root = index(manifestsOf(parts), { tag: 'artifact-index', fields: { artifactType: SBOM } })
  return {
    name: 'artifact-index',
    blobs: parts.flatMap(({ blobs }) => blobs),
    manifests: [...manifestsOf(parts), root],
  }
}

function artifactsWithSubjectSample(): Sample {
  const subject = image('subject', { tag: 'subject' })
  const to = descriptor(subject.manifest, subject.manifest.mediaType)
  const parts = [
    artifact('referrer a', SBOM, { subject: to, tag: 'tagged-referrer' }),
    artifact('referrer b', SIGNATURE, { subject: to }),
    artifact('referrer c', SBOM, { subject: to, fields: { annotations: { 'org.example.kept': 'yes' } } }),
  ]
  return {
    name: 'artifacts-with-subject',
    blobs: [subject, ...parts].flatMap(({ blobs }) => blobs),
    manifests: [subject.manifest, ...manifestsOf(parts)],
  }
}

function indexWithSubjectSample(): Sample {
  const subject = image('index subject', { tag: 'index-subject' })
  const parts = [image('index child a', {}), image('index child b', {})]
  const to = descriptor(subject.manifest, subject.manifest.mediaType)
  const root = index(manifestsOf(parts), {
    subject: to,
    fields: { artifactType: SBOM },
    tag: 'index-with-subject',
  })
  return {
    name: 'index-with-subject',
    blobs: [subject, ...parts].flatMap(({ blobs }) => blobs),
    manifests: [subject.manifest, ...manifestsOf(parts), root],
  }
}

/** The subject is nowhere: the specification takes such a push, and lists the referrer all the same. */
function missingSubjectSample(): Sample {
  const absent = image('absent subject', {})
  const to = descriptor(absent.manifest, absent.manifest.mediaType)
  const { blobs, manifest } = artifact('lonely referrer', SBOM, { subject: to, tag: 'missing-subject' })
  return { name: 'missing-subject', blobs, manifests: [manifest] }
}

function artifact(seed: string, artifactType: string, options: ImageOptions): BuiltImage {
  const empty = jsonBlob({})
  const payload = blobOf(seed)
  const fields = {
    artifactType,
    config: descriptor(empty, EMPTY),
    layers: [descriptor(payload, artifactType)],
    ...options.fields,
  }
  return {
    blobs: [empty, payload],
    manifest: manifest(MEDIA_TYPES.ociManifest, fields, {
      ...options,
      fields: { artifactType, ...options.fields },
    }),
  }
}

function index(children: readonly SampleManifest[], options: ImageOptions): SampleManifest {
  const manifests = children.map((child) => descriptor(child, child.mediaType))
  return manifest(MEDIA_TYPES.ociIndex, { manifests, ...options.fields }, options)
}

function manifest(mediaType: string, content: Fields, options: ImageOptions): SampleManifest {
  const { subject, tag, fields = {} } = options
  const bytes = Buffer.from(
    JSON.stringify({ schemaVersion: 2, mediaType, ...content, ...(subject && { subject }) }),
  )
  return {
    bytes,
    digest: digestOf(bytes, options.algorithm),
    mediaType,
    artifactType: typeof fields['artifactType'] === 'string' ? fields['artifactType'] : undefined,
    annotations: fields['annotations'] as Readonly<Record<string, string>> | undefined,
    subject: subject?.digest,
    tag,
  }
}

function manifestsOf(images: readonly BuiltImage[]): SampleManifest[] {
  return images.map(({ manifest }) => manifest)
}

function descriptor({ digest, bytes }: SampleBlob, mediaType: string): Descriptor {
  return { mediaType, digest, size: bytes.length }
}

export function jsonBlob(value: unknown, algorithm: DigestAlgorithm = 'sha256'): SampleBlob {
  const bytes = Buffer.from(JSON.stringify(value))
  return { bytes, digest: digestOf(bytes, algorithm) }
}

/** 3.9 MB: registries must take manifests of 4 MB. */
function bulkyAnnotations(): Record<string, string> {
  return Object.fromEntries(
    Array.from({ length: 390 }, (_, at) => [`org.example.bulk.${at}`, String(at % 10).repeat(10_000)]),
  )
}
