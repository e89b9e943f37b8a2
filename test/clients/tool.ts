/** What the matrix asks of a client. What a client cannot do is left out, and is n/a in the table. */
import type { Image } from '../support/images.ts'

/** The tag of everything here: helm takes no other than a version. */
export const VERSION = '1.0.0'

/** What a client holds after a pull, read out of its own storage. */
export interface Held {
  /** The manifest's digest, as the client tells it or its files show it. */
  readonly digest: string | undefined
  /** Digests of the files it wrote, made by us from their bytes. */
  readonly files: readonly string[]
  /** Digests of the layers as it unpacked them, for an engine that keeps no file of them. */
  readonly unpacked: readonly string[]
}

export interface Credentials {
  readonly username: string
  readonly password: string
}

/** References are `<hostname>:<port>/team/…:<tag>` or `…@sha256:…`, repositories the same without either. */
export interface Tool extends AsyncDisposable {
  readonly name: string
  /** What the program says of itself. */
  readonly version: string
  /** What it calls this machine; default `127.0.0.1`. */
  readonly hostname?: 'localhost'
  /** Throws when the registry refuses the credentials, where the client asks it at all. */
  login(host: string, user: Credentials): Promise<void>
  /** An image that this client can pull; default one of ours. */
  sample?(repository: string, seed: string): Promise<Image>
  /** Pushes the image, or one of its own making; resolves with the digest that must be there, if it is known. */
  push(reference: string, image: Image): Promise<string | undefined>
  /** Into the client's own storage, from nothing. */
  pull(reference: string): Promise<Held>
  /** How it handles multi-arch images: all of one, its own platform of one, or not at all. */
  readonly indexes: 'whole' | 'own platform' | 'none'
  /** From one repository to another of the same registry. */
  copy?(from: string, to: string): Promise<void>
  /** By digest. */
  remove?(reference: string): Promise<void>
  /** Attaches something to the image and lists what is attached: digests. */
  refer?(reference: string): Promise<readonly string[]>
  tags?(repository: string): Promise<readonly string[]>
}

/** Starts a client with a home of its own; throws when it cannot be had here. */
export type StartTool = () => Promise<Tool>

/** The first version number in what a program prints of itself. */
export function versionIn(text: string): string {
  return /\d+\.\d+\.\d+[\w.+~-]*/.exec(text)?.[0] ?? text.trim()
}
