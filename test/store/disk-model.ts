/**
 * A disk that may lose whatever was not synced. Names in a folder and bytes in a file exist twice: as the process sees
 * them, and as a power cut would surely leave them; between the two anything is possible, folder by folder.
 */
import { basename, dirname } from 'node:path'
import type { RecordedCall } from './recorded-calls.ts'

interface File {
  readonly kind: 'file'
  text: string
  sizeBytes: number
  /** How many bytes a power cut would leave for sure. */
  syncedBytes: number
}

interface Folder {
  readonly kind: 'folder'
  names: Map<string, Node>
  syncedNames: Map<string, Node>
}

type Node = File | Folder

/** A file as it would be found after a power cut. */
export interface FoundFile {
  readonly path: string
  readonly text: string
  readonly complete: boolean
}

/** Which names of a folder survived: those the process saw, or only those that were synced. */
export type Survival = (folder: string) => 'seen' | 'synced'

export interface DiskModel {
  apply(call: RecordedCall): void
  /** The kernel writes everything back by itself, as it may at any time. */
  writeBack(): void
  /** The files below the root after a power cut now. */
  afterPowerCut(survival: Survival): FoundFile[]
}

export function createDiskModel(root: string): DiskModel {
  const top = newFolder()
  const covered = new Map<number, () => void>()

  function find(path: string): Node | undefined {
    let node: Node | undefined = top
    for (const name of path.slice(root.length).split('/').filter(Boolean)) {
      node = node?.kind === 'folder' ? node.names.get(name) : undefined
    }
    return node
  }

  function folderOf(path: string): Folder {
    const folder = find(dirname(path))
    if (folder?.kind !== 'folder') throw new Error(`${path} lies in no known folder`)
    return folder
  }

  /** What a sync that begins now will have made sure when it returns. */
  function snapshot(path: string): () => void {
    const node = find(path)
    if (node?.kind === 'file') {
      const { sizeBytes } = node
      return () => {
        node.syncedBytes = Math.max(node.syncedBytes, sizeBytes)
      }
    }
    if (node?.kind !== 'folder') throw new Error(`${path} was synced but is not known`)
    const names = new Map(node.names)
    return () => {
      node.syncedNames = names
    }
  }

  return {
    apply: (call) => {
      if (call.kind === 'said') return
      const name = basename(call.path)
      switch (call.kind) {
        case 'create':
          folderOf(call.path).names.set(name, { kind: 'file', text: '', sizeBytes: 0, syncedBytes: 0 })
          break
        case 'write': {
          const file = find(call.path)
          if (file?.kind !== 'file') throw new Error(`${call.path} was written but is not known`)
          file.text += call.text
          file.sizeBytes += call.sizeBytes
          break
        }
        case 'folder':
          if (call.path !== root) folderOf(call.path).names.set(name, newFolder())
          break
        case 'rename': {
          const node = find(call.path)
          if (!node) throw new Error(`${call.path} was renamed but is not known`)
          folderOf(call.path).names.delete(name)
          folderOf(call.to).names.set(basename(call.to), node)
          break
        }
        case 'remove':
          if (!folderOf(call.path).names.delete(name))
            throw new Error(`${call.path} was removed but is not known`)
          break
        case 'sync-begins':
          covered.set(call.token, snapshot(call.path))
          break
        case 'sync':
          covered.get(call.token)?.()
          break
      }
    },
    writeBack: () => {
      const visit = (node: Node): void => {
        if (node.kind === 'file') node.syncedBytes = node.sizeBytes
        else {
          node.syncedNames = new Map(node.names)
          for (const child of node.names.values()) visit(child)
        }
      }
      visit(top)
    },
    afterPowerCut: (survival) => {
      const found: FoundFile[] = []
      const visit = (path: string, node: Node): void => {
        if (node.kind === 'file') {
          found.push({ path, text: node.text, complete: node.syncedBytes === node.sizeBytes })
          return
        }
        const names = survival(path) === 'seen' ? node.names : node.syncedNames
        for (const [name, child] of names) visit(`${path}/${name}`, child)
      }
      visit(root, top)
      return found
    },
  }
}

function newFolder(): Folder {
  return { kind: 'folder', names: new Map(), syncedNames: new Map() }
}
