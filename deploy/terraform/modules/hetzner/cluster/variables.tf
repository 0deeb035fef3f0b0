variable "network_id" {
  description = "Network of the whole cluster: id of an hcloud_network that holds the addresses of all regions."
  type        = number
}

variable "network_zone" {
  description = "Network zone of the location: eu-central for fsn1, nbg1 and hel1. A network does not leave its zone."
  type        = string
  default     = "eu-central"
}

variable "server_types" {
  description = "Machines of nodes and of etcd members."
  type = object({
    node = optional(string, "ccx13")
    etcd = optional(string, "cx22")
  })
  default = {}
}

variable "image" {
  description = "Image: Debian 12 or Ubuntu 24.04, or later."
  type        = string
  default     = "debian-12"
}

variable "ssh_keys" {
  description = "Names of operators' SSH keys. Without one, Hetzner sends a password by mail."
  type        = list(string)

  validation {
    condition     = length(var.ssh_keys) > 0
    error_message = "Name one key at least."
  }
}

variable "labels" {
  description = "Further labels of every resource."
  type        = map(string)
  default     = {}
}
