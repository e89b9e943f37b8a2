/** helm, which pushes and pulls charts. */
import { mkdir, readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { digestOf } from '../../src/oci/digest.ts'
import { MEDIA_TYPES } from '../../src/oci/media-types.ts'
import { bytesContent, jsonContent } from '../support/content.ts'
import { descriptorOf, type Image } from '../support/images.ts'
import { type GoProgram, startGoProgram } from './go-programs.ts'
import { type Tool, VERSION } from './tool.ts'

const HTTP = '--plain-http'

export async function startHelm(): Promise<Tool> {
  const helm = await startGoProgram('helm')
  return {
    name: 'helm',
    version: helm.version,
    indexes: 'none',
    async login(host, { username, password }) {
      const args = ['registry', 'login', HTTP, '--username', username, '--password-stdin', host]
      await helm.run(args, password)
    },
    async sample(repository, seed) {
      const name = repository.slice(repository.lastIndexOf('/') + 1)
      return chartImage(await readFile(await packed(helm, name, seed)), name)
    },
    async push(reference) {
      const [, path = '', chart = ''] = /^(.+)\/([^/:]+):[^:]+$/.exec(reference) ?? []
      const file = await packed(helm, chart, reference)
      await helm.run(['push', HTTP, file, `oci://${path}`])
      return undefined
    },
    async pull(reference) {
      const folder = join(helm.home.path, 'pulled')
      await rm(folder, { recursive: true, force: true })
      // The version is an option; a digest is part of the name.
      const [, name = '', version] = /^(.+\/[^:@]+):([^:]+)$/.exec(reference) ?? [undefined, reference]
      const which = version === undefined ? [] : ['--version', version]
      await mkdir(folder)
      await helm.run(['pull', HTTP, '--destination', folder, `oci://${name}`, ...which])
      const files: string[] = []
      for (const file of await readdir(folder)) {
        files.push(digestOf(await readFile(join(folder, file))))
      }
      return { digest: undefined, files, unpacked: [] }
    },
    [Symbol.asyncDispose]: () => helm[Symbol.asyncDispose](),
  }
}

/** A chart's file, packed by helm. */
async function packed(helm: GoProgram, name: string, seed: string): Promise<string> {
  const chart = { apiVersion: 'v2', name, version: VERSION, description: seed }
  await helm.home.write(`${name}/Chart.yaml`, JSON.stringify(chart))
  await helm.run(['package', name])
  return join(helm.home.path, `${name}-${VERSION}.tgz`)
}

/** As `helm push` makes it: https://helm.sh/docs/topics/registries/#oci-feature-deprecation-and-behavior-changes-with-v380 */
function chartImage(file: Buffer, name: string): Image {
  const config = jsonContent(
    { name, version: VERSION, apiVersion: 'v2' },
    'application/vnd.cncf.helm.config.v1+json',
  )
  const layer = bytesContent(file, 'application/vnd.cncf.helm.chart.content.v1.tar+gzip')
  const mediaType = MEDIA_TYPES.ociManifest
  const fields = { config: descriptorOf(config), layers: [descriptorOf(layer)] }
  const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType, ...fields }))
  const manifest = bytesContent(bytes, mediaType)
  return { manifest, digest: manifest.digest, mediaType, bytes, blobs: [config, layer], children: [] }
}
