/**
 * An image as a folder that skopeo, podman and buildah read as `oci:FOLDER:TAG`.
 * https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md
 */
import { createWriteStream } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { hexOf } from '../../src/oci/digest.ts'
import { MEDIA_TYPES } from '../../src/oci/media-types.ts'
import { allBlobs, allManifests, descriptorOf, type Image } from './images.ts'

/** Makes the folder a layout that holds this image under this tag (default `latest`). OCI images only. */
export async function writeOciLayout(folder: string, image: Image, tag: string = 'latest'): Promise<void> {
  const blobs = join(folder, 'blobs/sha256')
  await mkdir(blobs, { recursive: true })
  for (const content of [...allBlobs(image), ...allManifests(image).map(({ manifest }) => manifest)]) {
    await pipeline(content.read(), createWriteStream(join(blobs, hexOf(content.digest))))
  }
  const index = {
    schemaVersion: 2,
    mediaType: MEDIA_TYPES.ociIndex,
    manifests: [
      { ...descriptorOf(image.manifest), annotations: { 'org.opencontainers.image.ref.name': tag } },
    ],
  }
  await writeFile(join(folder, 'index.json'), JSON.stringify(index))
  await writeFile(join(folder, 'oci-layout'), JSON.stringify({ imageLayoutVersion: '1.0.0' }))
}
