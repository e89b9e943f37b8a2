/** skopeo: copies between registries and folders without an engine. Its storage here is a folder of OCI layouts. */
import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { buildImage } from '../images.ts'
import { writeOciLayout } from '../oci-layout.ts'
import type { RegistryClient } from './client.ts'
import { containersHome } from './containers-home.ts'

export interface Skopeo extends RegistryClient {
  /** `skopeo copy --all`, between any two transports: `docker://…`, `oci:FOLDER:TAG`. */
  copy(source: string, target: string): Promise<void>
  /** The raw manifest. */
  inspect(reference: string): Promise<string>
}

export async function startSkopeo(): Promise<Skopeo> {
  const home = await containersHome('skopeo')
  const layouts = join(home.folder.path, 'layouts')
  await mkdir(layouts)
  const layoutOf = (reference: string) => `${join(layouts, reference.replaceAll(/[^a-z0-9.]/gi, '_'))}`
  const skopeo: Skopeo = {
    name: 'skopeo',
    exec: (args, options) => home.run('skopeo', args, options),
    async login(host, username, password) {
      const args = ['login', '--tls-verify=false', '--username', username, '--password-stdin', host]
      await skopeo.exec(args, { input: password })
    },
    async pull(reference) {
      await rm(layoutOf(reference), { recursive: true, force: true }) // A layer that is there would not be fetched.
      await skopeo.copy(`docker://${reference}`, `oci:${layoutOf(reference)}:latest`)
    },
    push: (reference) => skopeo.copy(`oci:${layoutOf(reference)}:latest`, `docker://${reference}`),
    make: async (reference, seed) => await writeOciLayout(layoutOf(reference), await buildImage({ seed })),
    async copy(source, target) {
      const insecure = ['--src-tls-verify=false', '--dest-tls-verify=false']
      await skopeo.exec(['copy', '--all', '--quiet', ...insecure, source, target])
    },
    async inspect(reference) {
      const { stdout } = await skopeo.exec([
        'inspect',
        '--raw',
        '--tls-verify=false',
        `docker://${reference}`,
      ])
      return stdout
    },
    [Symbol.asyncDispose]: home[Symbol.asyncDispose],
  }
  return skopeo
}
