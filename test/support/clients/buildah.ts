/** buildah, with its own storage. */
import { join } from 'node:path'
import type { RegistryClient } from './client.ts'
import { containersHome } from './containers-home.ts'

export async function startBuildah(): Promise<RegistryClient> {
  const home = await containersHome('buildah')
  const { path } = home.folder
  const options = [
    '--root',
    join(path, 'storage'),
    '--runroot',
    join(path, 'runroot'),
    '--storage-driver=vfs',
  ]
  const buildah: RegistryClient = {
    name: 'buildah',
    exec: (args, execOptions) => home.run('buildah', [...options, ...args], execOptions),
    async login(host, username, password) {
      const args = ['login', '--tls-verify=false', '--username', username, '--password-stdin', host]
      await buildah.exec(args, { input: password })
    },
    async pull(reference) {
      await buildah.exec(['rmi', '--all', '--force'])
      await buildah.exec(['pull', '--quiet', '--tls-verify=false', reference])
    },
    async push(reference) {
      await buildah.exec(['push', '--quiet', '--tls-verify=false', reference])
    },
    async make(reference, seed) {
      const file = await home.folder.write('seed.txt', seed)
      const container = (await buildah.exec(['from', 'scratch'])).stdout.trim()
      await buildah.exec(['copy', '--quiet', container, file, '/seed.txt'])
      await buildah.exec(['commit', '--quiet', '--rm', container, reference])
    },
    [Symbol.asyncDispose]: home[Symbol.asyncDispose],
  }
  return buildah
}
