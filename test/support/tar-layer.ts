/** Layers that clients can unpack: a tar archive with one file of pseudo-random bytes. */
import { pipeline, Readable } from 'node:stream'
import { createGzip } from 'node:zlib'
import { type Content, generatedContent, randomBytesOf } from './content.ts'

export interface TarLayerOptions {
  /** Size of the file in it, in bytes; the archive has up to 2 KiB more. */
  readonly sizeBytes: number
  readonly seed: string | number
  readonly mediaType: string
  /** Wraps it in gzip (stored, since random bytes do not shrink). Default false. */
  readonly gzip?: boolean
  /** Default `layer-<seed>`. */
  readonly fileName?: string
}

export interface TarLayer extends Content {
  /** Digest of the archive before compression, as a config's `rootfs.diff_ids` lists it. */
  readonly diffId: string
}

export async function tarLayer(options: TarLayerOptions): Promise<TarLayer> {
  const { sizeBytes, seed, mediaType, gzip = false, fileName = `layer-${seed}` } = options
  const plain = () => archive(fileName, sizeBytes, seed)
  const content = await generatedContent(gzip ? () => gzipped(plain()) : plain, mediaType)
  const diffId = gzip ? (await generatedContent(plain, mediaType)).digest : content.digest
  return { ...content, diffId }
}

const BLOCK_BYTES = 512

async function* archive(name: string, sizeBytes: number, seed: string | number): AsyncGenerator<Buffer> {
  yield header(name, sizeBytes)
  yield* randomBytesOf(sizeBytes, seed)
  const padding = (BLOCK_BYTES - (sizeBytes % BLOCK_BYTES)) % BLOCK_BYTES
  yield Buffer.alloc(padding + 2 * BLOCK_BYTES) // Two empty blocks end an archive.
}

/** https://www.gnu.org/software/tar/manual/html_node/Standard.html (ustar) */
function header(name: string, sizeBytes: number): Buffer {
  const block = Buffer.alloc(BLOCK_BYTES)
  const octal = (value: number, digits: number) => `${value.toString(8).padStart(digits, '0')}\0`
  block.write(name, 0)
  block.write(octal(0o644, 7), 100)
  block.write(octal(0, 7), 108)
  block.write(octal(0, 7), 116)
  block.write(octal(sizeBytes, 11), 124)
  block.write(octal(0, 11), 136)
  block.write(' '.repeat(8), 148) // The checksum counts its own field as blanks.
  block.write('0', 156)
  block.write('ustar\x0000', 257)
  const sum = block.reduce((total, byte) => total + byte, 0)
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148)
  return block
}

function gzipped(plain: AsyncIterable<Buffer>): AsyncIterable<Buffer> {
  const gzip = createGzip({ level: 0 })
  // The reader of `gzip` sees its failure; the callback is there because a pipeline without one is a promise.
  pipeline(Readable.from(plain), gzip, () => {})
  return gzip
}
