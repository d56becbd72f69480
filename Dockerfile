# syntax=docker/dockerfile:1
# ddvla with the rclgo back end on ROS 2 Humble and ONNX Runtime's GPU build, for
# x86_64 and NVIDIA's driver 525 or newer. compose.yaml runs it.
#
#   docker build -t ddvla .
#   docker run --rm --net=host --gpus all -v /models:/models:ro ddvla \
#     ros2 launch discrete_diffusion_vla cobot_magic.launch.py policy:=/models/mine provider:=cuda
ARG GO_VERSION=1.26

FROM golang:${GO_VERSION}-bookworm AS go

FROM ros:humble-ros-base AS build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# What package.xml names, and what rosdep has no key for. ROS's Cyclone DDS, not
# Ubuntu's, which is too old and would be a second one in the process.
WORKDIR /ws
COPY package.xml src/discrete_diffusion_vla/
RUN apt-get update && rosdep update --rosdistro humble \
    && rosdep install -y --from-paths src --ignore-src --rosdistro humble \
    && apt-get install -y --no-install-recommends g++ libsentencepiece-dev \
    && rm -rf /var/lib/apt/lists/*
COPY --from=go /usr/local/go /usr/local/go
ENV PATH=/usr/local/go/bin:${PATH}
COPY go.mod go.sum src/discrete_diffusion_vla/
RUN cd src/discrete_diffusion_vla && go mod download
COPY . src/discrete_diffusion_vla
RUN . /opt/ros/humble/setup.bash \
    && colcon build --merge-install --install-base /opt/ddvla \
    && . /opt/ddvla/setup.bash && /opt/ddvla/lib/discrete_diffusion_vla/ddvla version

FROM ros:humble-ros-base
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
COPY package.xml /tmp/package/
RUN apt-get update && rosdep update --rosdistro humble \
    && rosdep install -y --from-paths /tmp/package --ignore-src --rosdistro humble --dependency-types=exec \
    && apt-get install -y --no-install-recommends curl libsentencepiece0 libturbojpeg \
    && rm -rf /var/lib/apt/lists/* /tmp/package /root/.ros

# ONNX Runtime's CUDA 12 package wants the libraries of CUDA 12 and of cuDNN 9; the
# container tool kit brings the driver's libcuda alone. TensorRT's are not here.
ARG CUDA=12-8
RUN curl -fsSLo /tmp/keyring.deb https://developer.download.nvidia.com/compute/cuda/repos/ubuntu2204/x86_64/cuda-keyring_1.1-1_all.deb \
    && dpkg -i /tmp/keyring.deb && rm /tmp/keyring.deb \
    && apt-get update && apt-get install -y --no-install-recommends \
      cuda-cudart-${CUDA} cuda-nvrtc-${CUDA} libcublas-${CUDA} libcufft-${CUDA} libcurand-${CUDA} libcudnn9-cuda-12 \
    && rm -rf /var/lib/apt/lists/* \
    && echo "/usr/local/cuda-${CUDA/-/.}/targets/x86_64-linux/lib" > /etc/ld.so.conf.d/ddvla-cuda.conf && ldconfig
ARG ORT_VERSION=1.30.0
ARG ORT_SHA256=f9886932ee7bb0b4d3fcab736a392d4ff5efaa0672b47f19f0cec03437cf64f1
RUN curl -fsSLo /tmp/ort.tgz https://github.com/microsoft/onnxruntime/releases/download/v${ORT_VERSION}/onnxruntime-linux-x64-gpu_cuda12-${ORT_VERSION}.tgz \
    && echo "${ORT_SHA256}  /tmp/ort.tgz" | sha256sum -c - \
    && mkdir /opt/onnxruntime && tar -C /opt/onnxruntime --strip-components=1 -xzf /tmp/ort.tgz && rm /tmp/ort.tgz \
    # All that the CUDA provider links is there, but for the driver.
    && missing=$(ldd /opt/onnxruntime/lib/libonnxruntime_providers_cuda.so | grep 'not found' | grep -v 'libcuda\.so' || true) \
    && if [ -n "$missing" ]; then echo "$missing"; exit 1; fi

COPY --from=build /opt/ddvla /opt/ddvla
COPY docker/entrypoint.sh /entrypoint.sh
RUN ln -s /opt/ddvla/lib/discrete_diffusion_vla/ddvla /usr/local/bin/ddvla \
    && useradd --create-home --uid 1000 ddvla \
    && install -d -o ddvla -g ddvla /bags \
    && /entrypoint.sh ddvla version
ENV DDVLA_ORT_LIBRARY=/opt/onnxruntime/lib/libonnxruntime.so.1 \
    DDVLA_NODE=/ddvla \
    RMW_IMPLEMENTATION=rmw_cyclonedds_cpp \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER ddvla
WORKDIR /home/ddvla
# The node decelerates the arms on SIGINT; launch takes SIGTERM for haste.
STOPSIGNAL SIGINT
HEALTHCHECK --interval=30s --timeout=15s --start-period=5m --retries=3 \
  CMD /entrypoint.sh ddvla health --node "$DDVLA_NODE" --timeout 10s
ENTRYPOINT ["/entrypoint.sh"]
CMD ["ros2", "launch", "discrete_diffusion_vla", "cobot_magic.launch.py", "--show-args"]
