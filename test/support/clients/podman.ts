/** podman, with its own storage. */
import { join } from 'node:path'
import { contentBytes } from '../content.ts'
import { tarLayer } from '../tar-layer.ts'
import type { RegistryClient } from './client.ts'
import { containersHome } from './containers-home.ts'

export async function startPodman(): Promise<RegistryClient> {
  const home = await containersHome('podman')
  const { path } = home.folder
  // Without systemd and its journal, and without a network: nothing is ever run here.
  const isolation = [
    '--root',
    join(path, 'storage'),
    '--runroot',
    join(path, 'runroot'),
    '--tmpdir',
    join(path, 'tmp'),
  ]
  const options = [...isolation, '--storage-driver=vfs', '--cgroup-manager=cgroupfs', '--events-backend=none']
  const podman: RegistryClient = {
    name: 'podman',
    exec: (args, execOptions) => home.run('podman', [...options, ...args], execOptions),
    async login(host, username, password) {
      const args = ['login', '--tls-verify=false', '--username', username, '--password-stdin', host]
      await podman.exec(args, { input: password })
    },
    async pull(reference) {
      await podman.exec(['rmi', '--all', '--force'])
      await podman.exec(['pull', '--quiet', '--tls-verify=false', reference])
    },
    async push(reference) {
      await podman.exec(['push', '--quiet', '--tls-verify=false', reference])
    },
    async make(reference, seed) {
      const layer = await tarLayer({ sizeBytes: 20_000, seed, mediaType: 'application/x-tar' })
      const file = await home.folder.write('make.tar', await contentBytes(layer))
      await podman.exec(['import', '--quiet', file, reference])
    },
    [Symbol.asyncDispose]: home[Symbol.asyncDispose],
  }
  return podman
}
